"""Fits on an accelerator give what fits on the CPU give, to rounding."""

import pytest
import torch

from lpcompress.factor import METHODS, factorize
from lpcompress.factor.norms import relative_error

ROWS, COLUMNS = 3000, 96
METHODS_AND_AUTO = [*METHODS, "auto"]


@pytest.fixture
def matrix():
    """Rows with a decaying spectrum and different lengths, shape (3000, 96)."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(ROWS, COLUMNS, generator=generator) * (torch.arange(COLUMNS) + 3.0) ** -0.5
    return rows * (torch.rand(ROWS, 1, generator=generator) + 0.3)


@pytest.mark.parametrize("p", [2.0, 1.0])
@pytest.mark.parametrize("method", METHODS_AND_AUTO)
def test_a_fit_has_the_size_and_the_error_of_one_on_the_cpu(device, matrix, method, p):
    weights = torch.arange(1.0, ROWS + 1).reciprocal().double()
    scales = (weights ** (1 / p)).float().unsqueeze(1)  # of the rows in the error that fits minimise
    options = {"ratio": 0.6, "p": p, "row_weights": weights, "seed": 3}
    here, there = factorize(matrix, method, **options), factorize(matrix.to(device), method, **options)
    assert {tensor.device.type for tensor in there.tensors().values()} == {device}
    assert there.n_bytes == pytest.approx(here.n_bytes, rel=0.01)
    errors = [relative_error(matrix * scales, fitted.dense().cpu() * scales, p) for fitted in (here, there)]
    # clusters end elsewhere after other roundings; on the CPU, seeds differ by as much
    assert errors[1] == pytest.approx(errors[0], rel=0.03 if method in ("messi", "adaptive") else 0.01)


@pytest.mark.parametrize("method", METHODS_AND_AUTO)
def test_same_seed_same_bytes(device, matrix, method):
    first, second = (factorize(matrix.to(device), method, ratio=0.6, seed=3).tensors() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", METHODS_AND_AUTO)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(device, matrix, method, dtype):
    fitted = factorize(matrix.to(device, dtype), method, ratio=0.6)
    assert fitted.dense().dtype == dtype
    assert relative_error(matrix, fitted.dense().float().cpu()) < 0.5
