"""Loading the tokenizer of a checkpoint."""

import pytest
from transformers import BlenderbotConfig, CanineConfig, GPT2Config

from lpcompress.checkpoints import loading, tokenizers


def test_a_tokenizer_that_cannot_be_read_gives_a_warning(tiny_model, tokenizer, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    assert loading.load(str(tmp_path))[1] is None  # there is none, so no warning
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.warns(
        UserWarning, match="the tokenizer cannot be read, so the model is loaded without it. JSONDecodeError: "
    ):
        assert loading.load(str(tmp_path))[1] is None


@pytest.mark.parametrize(
    ("config", "settings", "found"),
    [
        (GPT2Config(), "GPT2Tokenizer", False),  # transformers makes one that encodes everything as []
        (BlenderbotConfig(), "BlenderbotTokenizer", False),  # counts tokenizer_config.json among its vocabulary files
        (CanineConfig(), "CanineTokenizer", True),  # characters: needs no file
    ],
)
def test_a_tokenizer_without_vocabulary_counts_only_if_it_needs_none(tmp_path, config, settings, found):
    config.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(f'{{"tokenizer_class": "{settings}"}}')
    tokenizer = tokenizers.load_tokenizer(str(tmp_path), {"local_files_only": True})
    assert bool(tokenizer and tokenizer("ab")["input_ids"]) is found
