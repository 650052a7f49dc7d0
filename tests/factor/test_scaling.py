"""Matrices of any size: a power of two changes nothing but the exponents, and nothing that is not finite comes out."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpcompress.errors import LpCompressError, UnsuitableError
from lpcompress.factor import METHODS, LowRank, factorize
from lpcompress.factor.choice import choose
from lpcompress.factor.norms import quotients, relative_error
from lpcompress.factor.problem import Settings
from lpcompress.factor.scaling import excess_of
from lpcompress.factor.whitening import Products, Whitener
from lpcompress.formats.base import Factorization
from lpcompress.inspection import spectrum

FITTED = list(METHODS)
FLOATS = {dtype: torch.finfo(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}


def unit_matrix(n=90, d=12, seed=0):
    """Float64, largest magnitude 1, with a decaying spectrum."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, d, generator=generator, dtype=torch.float64) * 0.7 ** torch.arange(d)
    rows = rows @ torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    return rows / rows.abs().max()


def error_of_products(matrix, dense, moment):
    products = Products(moment)
    return quotients(matrix, [dense], [products])[products] ** 0.5


def whitener(d=12):
    inputs = torch.randn(50, d, generator=torch.Generator().manual_seed(5))
    return Whitener.of(inputs.T @ inputs / 50)


@pytest.mark.parametrize("method", [*FITTED, "auto"])
@pytest.mark.parametrize("p", [2.0, 1.5])
def test_a_power_of_two_changes_exponents_only(method, p):
    matrix = unit_matrix().float()
    large, small = (factorize(matrix * 2.0**e, method, 0.4, p) for e in (60, -60))
    for name, tensor in large.tensors().items():
        other = small.tensors()[name]
        codes = tensor.is_floating_point() and name not in (large.directions, "levels")
        assert torch.equal(tensor, other * 2.0**120 if codes else other), name
    assert relative_error(matrix * 2.0**60, large.dense()) < 0.2


@pytest.mark.parametrize("method", [*FITTED, "auto"])
@pytest.mark.parametrize("scale", [1e-38, 1e20, 3e38])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_error_does_not_depend_on_the_size_of_the_matrix(method, scale, weighted):
    matrix = unit_matrix()
    weights = torch.linspace(0, 1, 90) if weighted else None
    if (method, scale) == ("coded", 3e38):  # basis vectors are integers, whose products with the scales are larger
        with pytest.raises(UnsuitableError, match="entries beyond"):
            factorize((matrix * scale).float(), method, 0.4, row_weights=weights)
        return
    if (method, scale) == ("auto", 3e38):  # falls back on another method
        method = "adaptive"
    errors = [
        relative_error(each, factorize(each, method, 0.4, row_weights=weights).dense(), 2.0, weights)
        for each in (matrix.float(), (matrix * scale).float())
    ]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)


@pytest.mark.parametrize("method", ["svd", "coded", "auto"])
@pytest.mark.parametrize("scale", [1e-38, 1e30])
def test_with_calibration_too(method, scale):
    choices = [
        choose((unit_matrix() * each).float(), method, 0.4, Settings(), whitener=whitener()) for each in (1, scale)
    ]
    ordinary, extreme = (
        relative_error(unit_matrix() * each, choice.factorization.dense())
        for each, choice in zip((1, scale), choices, strict=True)
    )
    assert extreme == pytest.approx(ordinary, rel=1e-3, abs=1e-6)
    assert choices[0].errors == pytest.approx(choices[1].errors, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("method", ["svd", "lp", "messi", "adaptive"])
def test_half_precision_rows_longer_than_its_largest_number(method):
    matrix = (unit_matrix() * 30_000).half()
    matrix[:40] = 30_000  # rows of length 103,923
    fitted = factorize(matrix, method, 0.4)
    assert relative_error(matrix, fitted.dense()) < 0.2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in fitted.tensors().values())


@pytest.mark.parametrize("method", ["svd", "messi"])
def test_a_product_beyond_the_largest_number_is_refused(method):
    matrix = (unit_matrix().sign() * 65_504).half()
    with pytest.raises(UnsuitableError, match=r"beyond 65504, the largest that torch\.float16 .* bfloat16 or float32"):
        factorize(matrix, method, 0.6)


@given(
    dtype=st.sampled_from(list(FLOATS)),
    method=st.sampled_from([*FITTED, "auto"]),
    share=st.floats(0, 1),  # of the dtype's exponents
    p=st.sampled_from([1.0, 1.3, 2.0]),
    spread=st.sampled_from([0, 3, 40]),  # decades between the rows
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_every_scale_gives_a_finite_result_or_one_sentence(dtype, method, share, p, spread, seed):
    low, high = (math.log10(limit) for limit in (FLOATS[dtype].tiny, FLOATS[dtype].max))
    rows = torch.logspace(0, -spread, 40, dtype=torch.float64).unsqueeze(1)
    matrix = unit_matrix(40, 8, seed) * rows * 10 ** (low + share * (high - low) - 0.001)
    matrix = matrix.to(dtype)
    try:
        fitted = factorize(matrix, method, 0.5, p, seed=seed)
    except LpCompressError as error:
        assert "\n" not in str(error)
        return
    assert bool(torch.isfinite(fitted.dense()).all())
    assert 0 <= relative_error(matrix, fitted.dense(), p) <= 1.1


@pytest.mark.parametrize("scale", [1e-300, 1e-38, 1.0, 1e38, 1e300])
def test_errors_are_relative(scale):
    matrix = torch.tensor([[3.0, 4.0]], dtype=torch.float64) * scale
    nearly = torch.tensor([[3.0, 3.0]], dtype=torch.float64) * scale
    assert relative_error(matrix, nearly) == pytest.approx(0.2)
    assert relative_error(matrix, nearly, 1.0, torch.tensor([1e300], dtype=torch.float64)) == pytest.approx(1 / 7)
    assert error_of_products(matrix, nearly, 1e250 * torch.eye(2, dtype=torch.float64)) == pytest.approx(0.2)
    assert spectrum(torch.diag(matrix[0])).energy["0.10"] == pytest.approx(16 / 25)


def test_the_error_of_zeros():
    zeros = torch.zeros(2, 2)
    assert relative_error(zeros, zeros) == 0
    assert relative_error(zeros, torch.ones(2, 2)) == 1
    assert error_of_products(zeros, torch.ones(2, 2), torch.eye(2)) == 1
    assert error_of_products(torch.ones(2, 2), zeros, torch.zeros(2, 2)) == 0
    assert excess_of(torch.zeros(0, 3)) == 0


def test_auto_does_not_hide_a_fault_of_the_input(monkeypatch):
    def faulty(*given):
        raise LpCompressError("the input is wrong")

    monkeypatch.setattr("lpcompress.factor.choice.resolve", lambda home: faulty)
    with pytest.raises(LpCompressError, match="the input is wrong"):
        factorize(unit_matrix(), "auto")


def test_a_decomposition_that_does_not_converge_is_one_sentence(monkeypatch):
    def failing(*given):
        raise torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")

    monkeypatch.setattr("lpcompress.factor.choice.resolve", lambda home: failing)
    with pytest.raises(UnsuitableError, match=r"method svd cannot factor this matrix: linalg.eigh"):
        factorize(unit_matrix(), "svd")


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (torch.ones(90, dtype=torch.complex64), r"row_weights must be real numbers.* Got torch\.complex64"),
        (torch.ones(90, device="meta"), r"Got torch\.float32, torch\.strided on meta"),
        (torch.ones(90).to_sparse(), r"torch\.sparse_coo"),
    ],
)
def test_row_weights_of_other_kinds_are_refused(weights, sentence):
    with pytest.raises(LpCompressError, match=sentence), warnings.catch_warnings(action="ignore"):
        factorize(unit_matrix(), "svd", row_weights=weights)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.int32, torch.float64])
def test_row_weights_of_any_real_dtype(dtype):
    fitted = factorize(unit_matrix(), "svd", row_weights=torch.arange(1, 91).div(8).ceil().to(dtype))
    same = factorize(unit_matrix(), "svd", row_weights=torch.arange(1, 91).div(8).ceil())
    assert torch.equal(fitted.dense(), same.dense())


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_seeds_that_no_generator_takes_are_refused(seed):
    with pytest.raises(LpCompressError, match="seed must be between"):
        factorize(unit_matrix(), "messi", clusters=2, seed=seed)


def test_matrices_of_eight_bits_are_refused():
    with pytest.raises(LpCompressError, match=r"16- to 64-bit floating-point.* Got .* torch\.float8_e5m2"):
        factorize(unit_matrix().to(torch.float8_e5m2), "svd")


def test_a_form_without_a_basis_is_scaled_by_its_codes():
    scaled = factorize(unit_matrix().float() * 2.0**80, "coded", 0.4)
    assert isinstance(scaled, Factorization) and not isinstance(scaled, LowRank)
    assert float(scaled.dense().abs().max()) > 2.0**79


def test_parameters_are_fitted_without_a_warning():
    parameter = torch.nn.Parameter(unit_matrix().float() * 1e30)
    fitted = factorize(parameter, "svd", 0.4)
    assert not any(tensor.requires_grad for tensor in fitted.tensors().values())
    assert relative_error(parameter, fitted.dense()) < 0.2
