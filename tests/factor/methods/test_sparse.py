"""Sparse codes: the mask, the levels, the budget, and the choice of basis and bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpcompress.factor import factorize
from lpcompress.factor.encoding import encode
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(120, 300),
    d=st.integers(16, 80),
    ratio=st.floats(0.2, 0.7),
    seed=st.integers(0, 9),
    bits=st.sampled_from([0, 1, 2]),
)
def test_budget_is_kept_and_used(n, d, ratio, seed, bits):
    matrix = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    basis = torch.eye(d)[: d // 4]
    bytes_ = int((1 - ratio) * n * d * 4)
    fitted = encode(matrix, basis, Budget(bytes_, 4), bits)
    assert fitted.n_bytes <= bytes_
    everything = fitted.values.numel() == n * (d // 4)
    assert everything or fitted.n_bytes > 0.97 * bytes_


def test_the_largest_coordinates_are_kept():
    matrix = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    fitted = encode(matrix, torch.eye(16), Budget(9000, 4), bits=0)
    support = fitted.support(0, 200)
    assert torch.equal(fitted.dense(), torch.where(support, matrix, 0))
    assert matrix[support].abs().min() >= matrix[~support].abs().max() * 0.999


def test_basis_stays_orthonormal():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(2000, 64, generator=generator) @ torch.linspace(2, 0.1, 64).diag()
    turned = matrix @ torch.linalg.qr(torch.randn(64, 64, generator=generator)).Q
    fitted = factorize(turned, "sparse", ratio=0.9)
    assert torch.allclose(fitted.basis @ fitted.basis.T, torch.eye(fitted.basis.shape[0]), atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_coordinates_without_a_number_are_rounded(bits):
    matrix = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    fitted = encode(matrix, None, Budget(14000, 4), bits)
    support, dense = fitted.support(0, 200), fitted.dense()
    assert torch.equal(dense[support], matrix[support])
    multiples = dense / fitted.steps.unsqueeze(1)
    assert torch.allclose((multiples - 0.5)[~support], (multiples - 0.5)[~support].round(), atol=1e-3)
    assert multiples[~support].abs().max() < 2 ** (bits - 1)
    near = (dense - matrix).abs() <= 0.5001 * fitted.steps.unsqueeze(1)
    assert bits == 1 or near[~support].float().mean() > 0.9  # all but those beyond the outermost level


def test_one_bit_is_the_sign_with_the_mean_magnitude():
    matrix = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    fitted = encode(matrix, None, Budget(9000, 4), bits=1)
    support, dense = fitted.support(0, 200), fitted.dense()
    assert torch.equal(dense[~support] < 0, matrix[~support] < 0)
    for row in range(200):
        small = matrix[row][~support[row]].abs()
        torch.testing.assert_close(dense[row][~support[row]].abs(), small.mean().expand_as(small))


def test_bits_are_kept_where_they_pay_and_only_there():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3000, 32, generator=generator)
    exact = torch.randn(3000, 4, generator=generator) @ torch.randn(4, 32, generator=generator)
    found = [factorize(noise, "sparse", ratio=ratio).bits for ratio in (0.5, 0.8, 0.9)]
    assert found == sorted(found, reverse=True) and found[0] == 8 and found[-1] <= 2
    assert factorize(exact, "sparse", ratio=0.5).bits == 0


def test_half_precision_with_p_below_two_keeps_the_budget():
    matrix = torch.randn(600, 32, generator=torch.Generator().manual_seed(0)).half()
    fitted = factorize(matrix, "sparse", ratio=0.5, p=1.0)
    assert fitted.values.dtype == torch.half
    assert 0.5 <= 1 - fitted.n_bytes / (matrix.numel() * 2) < 0.505


def planted_entries(n=96, d=96, share=0.1):
    """A square matrix in which few entries hold nearly all the energy."""
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(n, d, generator=generator) < share
    return torch.randn(n, d, generator=generator) * torch.where(kept, 1.0, 0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [2.0, 1.0])
def test_no_basis_where_it_does_not_pay(dtype, p):
    matrix = planted_entries().to(dtype)
    fitted = factorize(matrix, "sparse", ratio=0.6, p=p)
    assert fitted.basis is None and fitted.ranks == [96] and "basis" not in fitted.tensors()
    assert fitted.n_bytes <= 0.4 * matrix.numel() * matrix.element_size()
    support = fitted.support(0, 96)
    assert torch.equal(fitted.dense()[support], fitted.values)
    assert fitted.dense()[~support].abs().max() < 0.1  # levels of the noise
    if p == 2:
        assert torch.equal(fitted.dense()[support], matrix[support])
        assert matrix[support].abs().min() >= matrix[~support].abs().max() * 0.99
    assert relative_error(matrix, fitted.dense(), p) < 0.05
    doubled = fitted.scale_rows(torch.full((96,), 2.0))
    assert torch.equal(doubled.dense(), 2 * fitted.dense())


def test_the_better_of_basis_and_none_is_kept():
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(2000, 32, generator=generator) * 0.8 ** torch.arange(32.0)
    tall = tall @ torch.linalg.qr(torch.randn(32, 32, generator=generator))[0]
    for matrix, needs_basis in ((tall, True), (planted_entries(), False)):
        fitted = factorize(matrix, "sparse", ratio=0.9)
        alone = encode(matrix, None, Budget(int(0.1 * matrix.numel() * 4), 4), fitted.bits)
        assert (fitted.basis is not None) == needs_basis
        assert relative_error(matrix, fitted.dense()) <= relative_error(matrix, alone.dense())


def test_a_size_without_room_for_a_basis():
    matrix = torch.randn(16, 400, generator=torch.Generator().manual_seed(0))
    fitted = factorize(matrix, "sparse", ratio=0.95)
    assert fitted.basis is None and relative_error(matrix, fitted.dense()) < 0.6  # one basis vector would take it all
