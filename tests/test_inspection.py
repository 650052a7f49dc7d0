"""Inspecting checkpoints: groups of layers, spectra and reports."""

import json

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from lpcompress import inspection
from lpcompress.errors import CheckpointError

SIZES = {
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
}


def test_every_parameter_is_counted_once():
    model = BertForMaskedLM(BertConfig(**SIZES))  # its head shares the word embedding
    groups = inspection.layer_groups(model)
    assert sum(group.parameters for group in groups) == sum(p.numel() for p in model.parameters())
    assert sum(group.share for group in groups) == pytest.approx(1)


def test_layers_whose_names_differ_in_a_number_are_one_group():
    groups = {group.name: group for group in inspection.layer_groups(BertModel(BertConfig(**SIZES)))}
    query = groups["encoder.layer.*.attention.self.query"]
    assert (query.kind, query.count, query.shape) == ("Linear", 2, [16, 16])
    assert query.parameters == 2 * (16 * 16 + 16)
    assert query.bytes == 4 * query.parameters
    assert groups["embeddings.word_embeddings"].shape == [100, 16]


def test_the_spectrum_of_a_known_matrix():
    left = torch.linalg.qr(torch.randn(50, 4, generator=torch.Generator().manual_seed(0))).Q
    found = inspection.spectrum(left * torch.tensor([3.0, 2.0, 1.0, 0.0]))
    assert found.shape == [50, 4]
    assert found.energy == pytest.approx({"0.10": 9 / 14, "0.25": 9 / 14, "0.50": 13 / 14, "0.75": 1.0})


def test_the_kurtosis_of_a_normal_matrix_is_three():
    normal = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    assert inspection.spectrum(normal).kurtosis == pytest.approx(3, abs=0.1)


def test_a_wide_matrix_has_a_spectrum_too():
    wide = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(wide.double()).square()
    assert inspection.spectrum(wide).energy["0.75"] == pytest.approx(float(singular[:2].sum() / singular.sum()))


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_the_spectrum_of_equal_entries_is_finite(value):
    found = inspection.spectrum(torch.full((50, 4), value))
    assert found.energy == pytest.approx(dict.fromkeys(found.energy, float(value > 0)))
    assert found.kurtosis == 0


def test_a_dense_checkpoint(tmp_path):
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    found = inspection.inspect(str(tmp_path))
    assert (found.architecture, found.dtype) == ("BertModel", "float32")
    assert found.embedding.name == "embeddings.word_embeddings"
    assert found.factored == {}
    assert found.report is None


def test_an_invalid_report_is_named(tmp_path):
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    (tmp_path / "lpcompress.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"lpcompress\.json: must be JSON"):
        inspection.inspect(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"layers": 3}', '{"layers": [{}]}', '{"file_bytes_before": "x"}'])
def test_an_invalid_report_is_named_before_the_model_is_loaded(tmp_path, monkeypatch, content):
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    (tmp_path / "lpcompress.json").write_text(content)
    monkeypatch.setattr(inspection.loading, "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(CheckpointError, match=r"lpcompress\.json: .*Delete the file to continue without it\.$"):
        inspection.inspect(str(tmp_path))


def test_the_report_is_read(tmp_path):
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    (tmp_path / "lpcompress.json").write_text(json.dumps({"model": "x", "layers": []}))
    assert inspection.inspect(str(tmp_path)).report == {"model": "x", "layers": []}


def test_an_embedding_that_is_not_finite_is_named(tmp_path):
    model = BertModel(BertConfig(**SIZES))
    model.get_input_embeddings().weight.data[3, 4] = torch.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"^embeddings\.word_embeddings holds values that are not finite"):
        inspection.inspect(str(tmp_path))
