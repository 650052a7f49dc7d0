"""Fitting one layer: the model is not changed, and plain SVD is fitted for comparison at most once."""

import json

import pytest
import torch
from torch import nn

from lpcompress.compression import measure
from lpcompress.compression.one_layer import fit_layer
from lpcompress.compression.priors import RowWeights
from lpcompress.compression.records import Share, Task
from lpcompress.errors import LpCompressError, UnsuitableError
from lpcompress.factor import factorize
from lpcompress.factor.problem import Settings
from lpcompress.inspection import spectrum
from lpcompress.methods import METHODS
from lpcompress.presentation import as_json
from lpcompress.progress import Progress, silent
from lpcompress.surgery.finding import find_layers
from lpcompress.surgery.layer import Layer


@pytest.fixture
def embedding(tiny_model):
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(generator=torch.Generator().manual_seed(1))
    [layer] = find_layers(model, ["embedding"]).values()
    return layer


def task(method, weights=None, ratio=0.4):
    return Task(Share(method, ratio), RowWeights(weights, "uniform"), None)


def test_the_weight_of_the_model_is_never_written_to(embedding):
    before, seen = embedding.module.weight.detach().clone(), []

    def tell(doing, done, total):
        seen.append((doing, done / total))
        assert torch.equal(embedding.module.weight, before)

    done = fit_layer(embedding, task("coded"), Settings(), None, Progress(tell))
    words, shares = zip(*seen, strict=True)
    assert list(dict.fromkeys(words)) == ["fitting coded", "fitting SVD for comparison"]
    assert list(shares) == sorted(shares) and 0 == shares[0] < shares[-1] < 1
    assert torch.equal(embedding.module.weight, before)
    assert torch.equal(done.module.padding_row, before[0])
    with pytest.raises(LpCompressError, match="word_embeddings: "):
        fit_layer(embedding, task("svd", ratio=0.99), Settings(), None, Progress(tell))
    assert torch.equal(embedding.module.weight, before)


@pytest.mark.parametrize(
    ("method", "weighted", "compare", "fits"),
    [("svd", False, True, 0), ("svd", True, True, 1), ("coded", False, True, 1), ("coded", False, False, 0)],
)
def test_svd_is_not_fitted_twice(embedding, monkeypatch, method, weighted, compare, fits):
    real, calls = measure.spectrum_and_parts, []
    monkeypatch.setattr(measure, "spectrum_and_parts", lambda *given: calls.append(given) or real(*given))
    weights = torch.linspace(1, 2, 203, dtype=torch.float64) if weighted else None
    record = fit_layer(embedding, task(method, weights), Settings(), None, silent, compare).record
    assert len(calls) == fits
    assert (record.svd_error_fro is None) == (not compare)
    assert bool(record.energy) == bool(fits)
    if method == "svd" and not weighted:
        assert record.svd_error_fro == record.error_fro


def test_the_comparison_is_what_factorize_gives_and_tells_the_spectrum(embedding):
    with embedding.lend():
        matrix = embedding.matrix_to_fit(None)
    how = measure.Measure(2.0, None, None)
    found = how.of_svd(matrix, 0.5)
    assert found.errors == how.errors(matrix, factorize(matrix, "svd", 0.5).dense_parts())
    assert found.energy == pytest.approx(spectrum(matrix).energy)


PLAIN = {
    "embedding": lambda: nn.Embedding(120, 16, padding_idx=0),
    "linear": lambda: nn.Linear(16, 40),
    "conv": lambda: nn.Conv2d(8, 24, 3),
}


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("role", list(PLAIN))
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float32, 1e-40),
        (torch.float32, 1e-24),
        (torch.float32, 0.0),
        (torch.float32, 1e20),
        (torch.float32, 3e38),
        (torch.float16, 6e-8),
        (torch.float16, 65_504.0),
        (torch.bfloat16, 1e30),
        (torch.float64, 1e300),
    ],
)
def test_a_layer_of_any_size_is_fitted_or_refused_in_one_sentence(method, role, dtype, scale):
    owner = nn.ModuleDict({"layer": PLAIN[role]()}).double()
    with torch.no_grad():
        for parameter in owner.parameters():
            parameter.uniform_(-1, 1, generator=torch.Generator().manual_seed(0)).mul_(scale)
    layer = Layer("layer", owner.to(dtype), "layer")
    try:
        done = fit_layer(layer, task(method), Settings(clusters=2 if method == "messi" else None), None, silent)
    except UnsuitableError as error:
        assert method == "sketch" or "beyond" in str(error)
        assert str(error).startswith("layer: ") and "\n" not in str(error)
        return
    assert json.loads(as_json(done.record))["error_fro"] <= 1.0
    assert bool(torch.isfinite(done.module.dense()).all())
    assert done.record.svd_error_fro is None or done.record.svd_error_fro <= 1.0
