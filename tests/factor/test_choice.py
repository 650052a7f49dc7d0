"""What `auto` tries, and what it knows without trying."""

import pytest
import torch

from lpcompress.factor.choice import choose
from lpcompress.factor.methods import lp
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Settings


def power_of(weights, exponent):
    """Row weights with which squares are weighted by the rows' lengths that suit another norm."""
    return None if weights is None else weights.pow(exponent)


@pytest.mark.parametrize("size", [1.0, 1e30])
@pytest.mark.parametrize("weights", [None, torch.linspace(0.01, 1, 400)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [2.0, 1.0])
def test_a_low_rank_far_behind_is_not_fitted_and_its_error_is_known(monkeypatch, size, weights, dtype, p):
    generator = torch.Generator().manual_seed(0)
    matrix = (size * torch.randn(400, 24, generator=generator) * torch.linspace(2, 0.1, 24)).to(dtype)
    fitted = choose(matrix, "svd", 0.8, Settings(), power_of(weights, 2 / p)).factorization
    monkeypatch.setattr(lp, "lp", lambda *_: pytest.fail("it was fitted"))
    chosen = choose(matrix, "auto", 0.8, Settings(p), weights)
    assert chosen.method == "coded" and chosen.errors["coded"] < chosen.errors["lp"]
    found = relative_error(matrix, fitted.dense(), p, weights)
    assert chosen.errors["lp"] == pytest.approx(found, rel=1e-5 if dtype == torch.float32 else 1e-3)


def test_the_error_of_a_wide_matrix_is_that_of_its_fit():
    matrix = torch.randn(24, 400, generator=torch.Generator().manual_seed(0))
    fitted = choose(matrix, "lp", 0.8, Settings()).factorization
    found = choose(matrix, "auto", 0.8, Settings()).errors["lp"]
    assert found == pytest.approx(relative_error(matrix, fitted.dense()), rel=1e-5)
