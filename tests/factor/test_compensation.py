"""Compensated rounding against GPTQ as published, and by the error of products with inputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpcompress.factor.choice import choose
from lpcompress.factor.compensation import Compensation
from lpcompress.factor.curves import curves_of
from lpcompress.factor.levels import decode, fit_levels
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import DAMPING, Whitener


def inputs_that_hang_together(rows=800, d=40, seed=0):
    """Correlated inputs of decreasing energy, like those of a linear layer."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, d, generator=generator) * 0.85 ** torch.arange(d)
    return mixed @ torch.randn(d, d, generator=generator) + 0.1 * torch.randn(rows, d, generator=generator)


def moment_of(inputs):
    return (inputs.T @ inputs).double() / len(inputs)


def gptq(matrix, moment, kept, steps, bits, order):
    """Algorithm 1 of Frantar et al. (2023) with blocks of one column: columns in `order`, errors fed back by U."""
    upper = torch.linalg.cholesky(torch.linalg.inv(moment[order][:, order]), upper=True)
    rows, kept, half = matrix.double()[:, order], kept[:, order], 2 ** (bits - 1)
    fitted = torch.empty_like(rows)
    for j in range(rows.shape[1]):
        levels = ((rows[:, j] / steps).floor().clamp(-half, half - 1) + 0.5) * steps if bits else 0 * steps
        fitted[:, j] = torch.where(kept[:, j], rows[:, j], levels)
        error = (rows[:, j] - fitted[:, j]) / upper[j, j]
        rows[:, j:] -= error.unsqueeze(1) * upper[j, j:]
    return fitted[:, order.argsort()]


@pytest.mark.parametrize("bits", [0, 1, 2, 4])
@pytest.mark.parametrize("d", [40, 150])  # less and more than a block
def test_it_is_gptq_with_columns_by_descending_energy(bits, d):
    moment = moment_of(inputs_that_hang_together(d=d))
    whitener = Whitener.of(moment)
    matrix = torch.randn(30, d, generator=torch.Generator().manual_seed(1)).double()
    kept = matrix.abs() > 2
    _, steps = fit_levels(matrix, kept, bits)
    found = decode(Compensation.of(whitener)(matrix, kept, steps, bits), kept, steps.unsqueeze(1), bits)
    damped = moment / moment.diagonal().mean() + DAMPING * torch.eye(d)
    expected = gptq(matrix, damped, kept, steps, bits, moment.diagonal().argsort(descending=True))
    plain = decode(matrix, kept, steps.unsqueeze(1), bits)

    def losses(fitted):
        return (((matrix - fitted) @ damped) * (matrix - fitted)).sum(dim=1)

    helped = losses(expected) < losses(plain)
    torch.testing.assert_close(found, torch.where(helped.unsqueeze(1), expected, plain))
    assert helped.double().mean() > (0.9 if bits else 0.5)


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 12),
    d=st.integers(1, 80),
    bits=st.sampled_from([0, 1, 2, 4, 8]),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_no_row_gets_worse(n, d, bits, seed, share, dtype):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3 * d // 2, d, generator=generator) @ torch.randn(d, d, generator=generator)
    whitener = Whitener.of(moment_of(inputs))
    matrix = torch.randn(n, d, generator=generator).to(dtype)
    kept = torch.rand(n, d, generator=generator) < share
    _, steps = fit_levels(matrix, kept, bits)
    changed = Compensation.of(whitener)(matrix, kept, steps, bits)
    assert changed.shape == matrix.shape and changed.dtype == dtype
    before, after = (
        whitener(matrix - decode(each, kept, steps.unsqueeze(1), bits)).norm(dim=1) for each in (matrix, changed)
    )
    assert bool((after <= before * (1 + 1e-4)).all())


def test_energies_are_those_of_whitened_rows():
    whitener = Whitener.of(moment_of(inputs_that_hang_together()))
    rows = torch.randn(7, 40, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(Compensation.of(whitener).energies(rows), whitener(rows).double().square().sum(dim=1))


@pytest.mark.parametrize("ratio", [0.6, 0.8, 0.9, 0.95])
def test_products_with_the_inputs_are_nearer_at_the_same_size(ratio):
    inputs = inputs_that_hang_together(d=96)
    matrix = torch.randn(160, 96, generator=torch.Generator().manual_seed(3))
    whitener = Whitener.of(moment_of(inputs))
    plain, calibrated = (
        choose(matrix, "sparse", ratio, Settings(), whitener=each).factorization for each in (None, whitener)
    )
    most = (1 - ratio) * matrix.numel() * 4
    assert calibrated.n_bytes <= most and plain.n_bytes <= most
    errors = [float((inputs @ (matrix - each.dense()).T).square().sum()) for each in (plain, calibrated)]
    assert errors[1] < 0.75 * errors[0]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 0.15), (torch.bfloat16, 0.25)])
def test_axes_are_those_of_the_products_with_inputs_of_low_rank(dtype, bound):
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(900, 4, generator=generator) @ torch.randn(4, 64, generator=generator)
    inputs += 0.02 * torch.randn(900, 64, generator=generator)
    matrix = torch.randn(800, 64, generator=generator).to(dtype)  # of full rank; the inputs are nearly of rank 4
    whitener = Whitener.of(moment_of(inputs))
    fitted = choose(matrix, "sparse", 0.9, Settings(), whitener=whitener).factorization
    assert fitted.basis is not None and fitted.basis.dtype == dtype
    assert fitted.n_bytes <= 0.1 * matrix.numel() * matrix.element_size()
    outputs = inputs @ matrix.float().T
    assert (outputs - inputs @ fitted.dense().float().T).norm() < bound * outputs.norm()


def test_singular_moments():
    """With a moment of rank one or zero, the result is finite and of the requested size."""
    matrix = torch.randn(50, 24, generator=torch.Generator().manual_seed(5))
    for moment in (torch.ones(24, 24), torch.zeros(24, 24)):
        fitted = choose(matrix, "sparse", 0.7, Settings(), whitener=Whitener.of(moment)).factorization
        assert bool(torch.isfinite(fitted.dense()).all()) and fitted.n_bytes <= 0.3 * matrix.numel() * 4


def test_row_weights_with_calibration():
    matrix = torch.randn(60, 40, generator=torch.Generator().manual_seed(6))
    whitener, weights = Whitener.of(moment_of(inputs_that_hang_together())), torch.rand(60) + 0.1
    fitted = choose(matrix, "sparse", 0.75, Settings(), weights, whitener=whitener).factorization
    lost = whitener(matrix - fitted.dense()).square().sum(dim=1)
    plain = choose(matrix, "sparse", 0.75, Settings(), weights).factorization
    assert (lost * weights).sum() < (whitener(matrix - plain.dense()).square().sum(dim=1) * weights).sum()


def test_auto_compares_by_products():
    inputs = inputs_that_hang_together(d=64)
    matrix = torch.randn(300, 64, generator=torch.Generator().manual_seed(7))
    whitener = Whitener.of(moment_of(inputs))
    choice = choose(matrix, "auto", 0.8, Settings(), whitener=whitener)
    assert choice.errors.keys() == {"sparse", "adaptive", "lp"}
    assert choice.method == min(choice.errors, key=choice.errors.get)
    lost = whitener(matrix - choice.factorization.dense()).norm() / whitener(matrix).norm()
    assert choice.errors[choice.method] == pytest.approx(float(lost), rel=1e-3)


@pytest.mark.parametrize("shape", [(400, 48), (48, 120), (200, 64)])
def test_the_curve_predicts_the_loss_of_the_fit(shape):
    inputs = inputs_that_hang_together(d=shape[1])
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(8))
    whitener = Whitener.of(moment_of(inputs))
    n_bytes = matrix.numel() * 4
    [curve] = curves_of(matrix, "sparse", Budget(n_bytes, 4), Settings(), whitener).values()
    for share in (0.1, 0.2, 0.4):
        fitted = choose(matrix, "sparse", 1 - share, Settings(), whitener=whitener).factorization
        lost = whitener(matrix - fitted.dense()).square().sum() / whitener(matrix).square().sum()
        assert curve.at(int(share * n_bytes)) == pytest.approx(float(lost), rel=0.1)


def test_same_seed_same_bytes():
    matrix = torch.randn(100, 40, generator=torch.Generator().manual_seed(9))
    whitener = Whitener.of(moment_of(inputs_that_hang_together()))
    first, second = (choose(matrix, "sparse", 0.85, Settings(), whitener=whitener).factorization for _ in range(2))
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in first.tensors().items())
