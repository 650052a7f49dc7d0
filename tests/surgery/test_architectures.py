"""The table of architectures: its rows match the models, and its lookup functions work."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn

from lpcompress.surgery.architectures import (
    ARCHITECTURES,
    bare_weights,
    feed_forward_pair,
    in_attention,
    in_head,
    longest_text,
    reads_padding,
)


@pytest.fixture
def models(tiny_model):
    """A model for each row of the table, by the name of the row."""
    sizes = {"vocab_size": 203, "n_embd": 20, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    made = {name: tiny_model(name.lower()) for name in ("BERT", "RoBERTa", "DistilBERT", "XLNet")}
    return made | {"GPT-2": transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))}


@pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda row: row.name)
def test_rows_match_the_models(models, row):
    model = models[row.name]
    modules = dict(model.named_modules())
    pairs = [
        [block.get_submodule(leaf) for leaf in pair] for block in modules.values() if (pair := feed_forward_pair(block))
    ]
    assert len(pairs) == 2  # blocks
    width = model.config.hidden_size
    assert all(sum(layer.weight.shape) == sum(pairs[0][0].weight.shape) > 2 * width for pair in pairs for layer in pair)
    owners = [module for module in modules.values() if bare_weights(module)]
    assert len(owners) == 2 * bool(row.bare_weights)
    assert all(isinstance(getattr(owner, leaf), nn.Parameter) for owner in owners for leaf in bare_weights(owner))
    assert any(in_attention(name) for name in modules)
    assert any(name.endswith(row.positions) for name in modules) if row.positions else True
    assert (row.name == "XLNet") == reads_padding(model.config)
    assert any(in_head(name) for name in modules) or row.name == "XLNet"


@pytest.mark.parametrize(("summary", "read"), [("last", True), ("mean", True), ("first", False), ("cls_index", False)])
def test_summaries_that_read_padding(summary, read):
    assert reads_padding(SimpleNamespace(summary_type=summary)) is read
    assert not reads_padding(SimpleNamespace())


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
def test_the_longest_text_is_the_number_of_positions(architecture, tiny_model, tokenizer):
    model, words = tiny_model(architecture).eval(), tokenizer(architecture)
    words.model_max_length = 1000
    longest = longest_text(model, words)
    ids = torch.full((1, longest), 5)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))
    longer = torch.full((1, longest + 1), 5)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=longer, attention_mask=torch.ones_like(longer))


def test_the_longest_text_is_limited_by_the_tokenizer(tiny_model, tokenizer):
    assert longest_text(tiny_model("bert"), tokenizer()) == tokenizer().model_max_length == 38


def test_relative_positions_set_no_limit(tiny_model, tokenizer):
    words = tokenizer("xlnet")
    words.model_max_length = 1000
    assert longest_text(tiny_model("xlnet"), words) == 1000
