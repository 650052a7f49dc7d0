"""Advice: its estimates against what is then made, and the commands it gives."""

import json
import shlex

import pytest
import torch
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from lpcompress.checkpoints import loading
from lpcompress.compression import whole_model
from lpcompress.compression.advice import advise
from lpcompress.errors import LpCompressError
from lpcompress.progress import silent

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}


@pytest.fixture
def bert(tmp_path):
    """A BERT with 3,000 tokens whose embedding has a spectrum that falls."""
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=3000, **SIZES))
    with torch.no_grad():
        model.embeddings.word_embeddings.weight *= torch.logspace(0, -1, 64)
    model.save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


def test_estimates_are_near_what_compress_makes(bert):
    advice = advise(bert, "org/bert", silent)
    assert [each.command.split(" ", 3)[3] for each in advice.suggestions[:2]] == ["--ratio 0.8", "--ratio 0.95"]
    for suggestion, ratio in zip(advice.suggestions[:2], (0.8, 0.95), strict=True):
        model, _ = loading.load(bert)
        [layer] = whole_model.compress(model, ratio=ratio, method="coded").layers
        assert advice.bytes - suggestion.bytes == pytest.approx(layer.bytes_before - layer.bytes_after, rel=0.01)
        assert suggestion.error == pytest.approx(layer.error_weighted, rel=0.1)
        assert suggestion.bytes < suggestion.bytes_in_memory < advice.bytes
    last = advice.suggestions[2]
    words = shlex.split(last.command)
    assert words[:5] == ["lpcompress", "compress", "org/bert", "--layers", "all"]
    model, _ = loading.load(bert)
    done = whole_model.compress(model, target_size=float(words[-1]), layers="all", calibration="none")
    saved = sum(layer.bytes_before - layer.bytes_after for layer in done.layers)
    assert last.bytes == pytest.approx(advice.bytes - saved, rel=0.05)
    squares = sum(layer.parameters_before * layer.error_fro**2 for layer in done.layers)
    assert last.error == pytest.approx((squares / sum(each.parameters_before for each in done.layers)) ** 0.5, rel=0.15)


def test_a_model_without_words_gets_sizes_of_the_whole(tmp_path):
    config = ViTConfig(**{**SIZES, "intermediate_size": 512}, image_size=32, patch_size=8)
    ViTModel(config).save_pretrained(tmp_path / "vit")
    advice = advise(str(tmp_path / "vit"), "vit", silent)
    sizes = [float(shlex.split(each.command)[-1]) for each in advice.suggestions]
    assert len(sizes) == 3 and sizes == sorted(sizes, reverse=True)
    assert advice.embedding_share == 0
    errors = [each.error for each in advice.suggestions]
    assert errors == sorted(errors)


def test_the_command(run, bert, tmp_path):
    code, out, err = run("advise", bert)
    assert code == 0, err
    assert out.count("lpcompress compress") == 4 and "estimates: nothing was compressed or scored" in out
    code, out, _ = run("advise", bert, "--json")
    found = json.loads(out)
    assert (code, len(found["suggestions"]), "--eval-glue TASK" in found["measure"]) == (0, 3, True)
    assert run("compress", bert, "--ratio", "0.8", "--out", tmp_path / "small")[0] == 0
    code, out, err = run("advise", tmp_path / "small")
    assert (code, out) == (1, "") and "is compressed already. To see how: lpcompress inspect" in err
    code, _, err = run("advise", tmp_path / "none")
    assert code == 1 and "Traceback" not in err


def test_a_model_that_is_too_small_is_refused_in_a_sentence(tmp_path):
    BertModel(BertConfig(vocab_size=20, **{**SIZES, "hidden_size": 8, "intermediate_size": 8})).save_pretrained(
        tmp_path / "dust"
    )
    with pytest.raises(LpCompressError, match="too small to gain from compression"):
        advise(str(tmp_path / "dust"), "dust", silent)
