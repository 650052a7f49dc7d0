"""Low rank in l_p: Lewis weights, the outer loop, planted solutions."""

import math

import pytest
import torch

from lpcompress.factor import factorize
from lpcompress.factor.lewis import lewis_ellipsoid
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.methods.lp import lewis_axes
from lpcompress.factor.norms import power_sum, relative_error, shrink


def planted(n=800, d=40, rank=5, share=0.05, seed=0):
    """A low-rank matrix with gross errors in a few entries, and the matrix without them."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randn(n, rank, generator=generator) @ torch.randn(rank, d, generator=generator)
    hit = torch.rand(n, d, generator=generator) < share
    return clean + 20 * hit * torch.randn(n, d, generator=generator), clean


@pytest.mark.parametrize("p", [1.0, 1.5])
def test_planted_low_rank_is_recovered_through_outliers(p):
    noisy, clean = planted()
    ratio = 1 - 5 * (800 + 40) / (800 * 40)
    svd, lp = (factorize(noisy, method, ratio=ratio - 1e-6, p=p).dense() for method in ("svd", "lp"))
    assert relative_error(noisy, lp, p) < 0.95 * relative_error(noisy, svd, p)
    assert relative_error(clean, lp) < (0.01 if p == 1 else 0.5) * relative_error(clean, svd)


def test_p_2_is_svd():
    matrix = planted()[0]
    svd, lp = (factorize(matrix, method, ratio=0.5, p=2.0) for method in ("svd", "lp"))
    assert torch.equal(svd.left, lp.left)
    assert torch.equal(svd.right, lp.right)


@pytest.mark.parametrize(("method", "ratio"), [("lp", 0.6), ("messi", 0.6), ("adaptive", 0.6)])
@pytest.mark.parametrize("p", [1.0, 1.3, 1.7])
def test_lp_form_lowers_the_lp_error_of_every_method(method, ratio, p):
    matrix = planted()[0]
    least_squares, robust = (factorize(matrix, method, ratio=ratio, p=each).dense() for each in (2.0, p))
    assert relative_error(matrix, robust, p) < relative_error(matrix, least_squares, p)


@pytest.mark.parametrize("p", [1.0, 1.25, 1.5, 2.0])
def test_lewis_ellipsoid_sandwiches_the_lp_ball(p):
    matrix = planted(n=300, d=12, rank=12)[0].double()
    ellipsoid = lewis_ellipsoid(matrix, p, tolerance=1e-8, rounds=100)
    directions = torch.randn(12, 500, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    inner = (directions * (ellipsoid @ directions)).sum(dim=0).sqrt()
    norm = (matrix @ directions).abs().pow(p).sum(dim=0).pow(1 / p)
    assert bool((norm >= inner * (1 - 1e-6)).all())
    assert bool((norm <= inner * 12 ** (1 / p - 0.5) * (1 + 1e-6)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eigenvalues_below_the_rounding_error(dtype):
    clean = planted(n=40, d=12, rank=2)[1].double()
    noise = torch.randn(40, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix = (clean + 10 * torch.finfo(dtype).eps ** 0.6 * noise).to(dtype)
    fitted = factorize(matrix, "lp", ratio=0.5, p=1.0).dense()
    assert relative_error(matrix, fitted, 1.0) < 1e-3


@pytest.mark.parametrize("p", [1.0, 1.5])
def test_lewis_axes_keep_their_guarantee(p):
    matrix = planted(n=300, d=12, rank=12)[0].double()
    rank = 6
    basis = lewis_axes(matrix, principal_axes(matrix)[1], p)[:, :rank]
    start = matrix @ basis @ basis.T
    values = torch.linalg.eigvalsh(lewis_ellipsoid(matrix, p)).flip(0)
    error = power_sum(matrix - start, p) ** (1 / p)
    least_possible = math.sqrt(values[rank])  # lower bound for any rank-6 matrix: sigma_{k+1}
    assert error <= 1.01 * 12 ** (1 / p) * math.sqrt(12 - rank) * least_possible
    assert error >= least_possible


@pytest.mark.parametrize("p", [1.0, 1.01, 1.2, 1.5, 1.9, 2.0])
def test_shrink_minimises_its_objective(p):
    values = torch.linspace(-4, 4, 81, dtype=torch.float64)
    threshold = 0.7
    grid = torch.linspace(-4.5, 4.5, 90001, dtype=torch.float64)
    objective = threshold * grid.abs().pow(p) + (grid - values.unsqueeze(1)).square() / 2
    best = objective.min(dim=1).values
    found = shrink(values, threshold, p)
    reached = threshold * found.abs().pow(p) + (found - values).square() / 2
    assert bool((reached <= best + 2e-3).all())  # error of four Newton steps and of the grid
