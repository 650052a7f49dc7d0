"""Checkpoints of sentence-transformers stay such, compressed and densified."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from lpcompress.checkpoints import densifying, loading, saving
from lpcompress.compression.whole_model import compress

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

TEXTS = ["word1 word2 word3", "word7", "word9 word10 word11 word12 " * 40, "word190 word3"]
LONGEST = 16  # tokens, in sentence_bert_config.json only
MODULES = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
POOLING = {"word_embedding_dimension": 20, "pooling_mode_mean_tokens": True}
SCRIPT = """
import sys
import torch
from sentence_transformers import SentenceTransformer
texts, expected = torch.load(sys.argv[1])
stub = sys.argv[3] == "stub"
model = SentenceTransformer(sys.argv[2], device="cpu", trust_remote_code=stub)
assert ("lpcompress" in sys.modules) == stub
assert torch.equal(model.encode(texts, convert_to_tensor=True), expected) or not stub
torch.testing.assert_close(model.encode(texts, convert_to_tensor=True), expected, atol=1e-6, rtol=1e-5)
"""


def sentence_model(directory):
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings(action="ignore"):  # of its own imports
        return SentenceTransformer(str(directory), device="cpu")


@pytest.fixture
def source(tiny_model, word_tokenizer, tmp_path):
    """A directory as sentence-transformers publishes them."""
    directory = tmp_path / "source"
    tiny_model("bert", "base").save_pretrained(directory)
    word_tokenizer.save_pretrained(directory)
    kinds = enumerate(MODULES.items())
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in kinds
    ]
    texts = {
        "modules.json": modules,
        "1_Pooling/config.json": POOLING,
        "sentence_bert_config.json": {"max_seq_length": LONGEST, "do_lower_case": False},
    }
    for name, content in texts.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    return directory


def checked(directory: Path, dense: torch.Tensor, least: float) -> torch.Tensor:
    """Assert that a directory gives vectors near the dense model's, through all its modules; return them."""
    model = sentence_model(directory)
    vectors = model.encode(TEXTS, convert_to_tensor=True)
    assert [type(module).__name__ for module in model] == list(MODULES) and model.max_seq_length == LONGEST
    assert torch.cosine_similarity(vectors, dense).min() >= least
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)))
    return vectors


def test_pooling_norm_and_length_are_kept(source, tmp_path, fresh_python):
    dense = sentence_model(source).encode(TEXTS, convert_to_tensor=True)
    model, tokenizer = loading.load(str(source))
    compress(model, method="coded", ratio=0.28, tokenizer=tokenizer)
    saving.save(model, tokenizer, tmp_path / "small", source=str(source), stub=True)
    densifying.densify(tmp_path / "small", tmp_path / "dense")
    small = checked(tmp_path / "small", dense, 0.999)
    torch.testing.assert_close(checked(tmp_path / "dense", dense, 0.999), small, atol=1e-6, rtol=1e-5)
    torch.save((TEXTS, small), tmp_path / "expected.pt")
    home = {"HF_HOME": str(tmp_path / "home")}  # where the stub's code is copied
    for name, way, environment in (("small", "stub", home), ("dense", "plain", {})):
        done = fresh_python(SCRIPT, tmp_path / "expected.pt", tmp_path / name, way, **environment)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_minilm_at_28_per_cent(tmp_path):
    from lpcompress.evaluation.demo import bundled_model

    texts = ["A man is eating food.", "Rain is expected in Paris.", "x", "Quarterly revenue rose by 12 %. " * 60]
    model, tokenizer = loading.load(str(bundled_model()))
    with warnings.catch_warnings(action="ignore"):
        dense = sentence_model(bundled_model())
        compress(model, ratio=0.28, tokenizer=tokenizer)
        saving.save(model, tokenizer, tmp_path / "small", source=str(bundled_model()))
        small = sentence_model(tmp_path / "small")
    first, second = (each.encode(texts, convert_to_tensor=True) for each in (dense, small))
    assert torch.cosine_similarity(first, second).min() >= 0.9999
    assert small.max_seq_length == dense.max_seq_length == 256
    torch.testing.assert_close(second.norm(dim=1), torch.ones(len(texts)))
