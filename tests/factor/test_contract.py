"""Properties of every method."""

import pytest
import torch

from lpcompress.errors import LpCompressError
from lpcompress.factor import METHODS, Clustered, LowRank, factorize
from lpcompress.factor.norms import relative_error

ALL = [*METHODS, "auto"]


def spectral_matrix(n=600, d=48, decay=0.9, seed=0):
    """Rows in general position with a decaying spectrum and different lengths."""
    generator = torch.Generator().manual_seed(seed)
    scales = decay ** torch.arange(d)
    lengths = torch.rand(n, 1, generator=generator) + 0.2
    return (
        torch.randn(n, d, generator=generator)
        * scales
        @ torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
        * lengths
    )


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_shape_dtype_and_size(method, dtype):
    matrix = spectral_matrix().to(dtype)
    before = matrix.clone()
    fitted = factorize(matrix, method, ratio=0.5)
    assert fitted.shape == tuple(matrix.shape)
    assert fitted.dense().shape == matrix.shape
    assert fitted.dense().dtype == dtype
    assert torch.equal(matrix, before)
    removed = 1 - fitted.n_bytes / (matrix.numel() * matrix.element_size())
    if method not in ("coded", "auto") or dtype != torch.float64:  # of which half is more than integers of 32 bits take
        assert 0.5 <= removed < 0.53  # one rank is 2 % of this small matrix
    assert fitted.n_bytes == sum(t.numel() * t.element_size() for t in fitted.tensors().values())
    assert fitted.n_parameters == sum(t.numel() for t in fitted.tensors().values() if t.is_floating_point())
    assert all(t.is_contiguous() for t in fitted.tensors().values())
    assert sum(fitted.rows) == matrix.shape[0]
    assert relative_error(matrix, fitted.dense()) < 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ratio", [0.28, 0.8])
def test_the_budget_is_kept_and_used_to_half_a_per_cent(method, ratio):
    matrix = spectral_matrix(n=620, d=420, decay=0.99)  # one dimension is 0.4 % of it
    assert 0 <= 1 - factorize(matrix, method, ratio).n_bytes / (matrix.numel() * 4) - ratio <= 0.005


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("p", [2.0, 1.0])
def test_same_seed_same_bytes(method, p):
    matrix = spectral_matrix()
    state = torch.get_rng_state()
    first, second = (factorize(matrix, method, ratio=0.6, p=p, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name


@pytest.mark.parametrize("method", ALL)
def test_never_worse_than_svd_at_the_same_size(method):
    matrix = spectral_matrix(n=4000)
    svd = relative_error(matrix, factorize(matrix, "svd", ratio=0.6).dense())
    assert relative_error(matrix, factorize(matrix, method, ratio=0.6).dense()) <= svd * 1.000001


@pytest.mark.parametrize("method", ALL)
def test_smaller_ratio_is_nearer(method):
    matrix = spectral_matrix()
    errors = [relative_error(matrix, factorize(matrix, method, ratio=ratio).dense()) for ratio in (0.8, 0.6, 0.3)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("method", ["svd", "lp", "messi", "adaptive", "coded", "auto"])
@pytest.mark.parametrize("p", [2.0, 1.5, 1.0])
def test_exactly_low_rank_comes_back(method, p):
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(500, 6, generator=generator) @ torch.randn(6, 40, generator=generator)
    fitted = factorize(matrix, method, ratio=0.6, p=p)
    assert relative_error(matrix, fitted.dense(), p) < {"messi": 1e-2, "coded": 1e-3, "auto": 1e-3}.get(method, 1e-4)


@pytest.mark.parametrize("method", ALL)
def test_row_weights_move_the_error_to_light_rows(method):
    matrix = spectral_matrix(n=1500)
    weights = 1 / (torch.arange(1500.0) + 1)
    plain, weighted = (factorize(matrix, method, ratio=0.7, row_weights=w).dense() for w in (None, weights))
    assert relative_error(matrix, weighted, 2.0, weights) < relative_error(matrix, plain, 2.0, weights)
    assert relative_error(matrix, weighted) > relative_error(matrix, plain)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("p", [2.0, 1.0])
def test_zero_matrix(method, p):
    fitted = factorize(torch.zeros(200, 24), method, ratio=0.5, p=p)
    assert torch.equal(fitted.dense(), torch.zeros(200, 24))


@pytest.mark.parametrize("method", ALL)
def test_duplicate_rows_and_rank_deficiency(method):
    matrix = spectral_matrix(n=40, d=32, decay=0.5).repeat(20, 1)
    fitted = factorize(matrix, method, ratio=0.4, p=1.0)
    assert relative_error(matrix, fitted.dense()) < 0.01


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (2, 2)])
def test_tiny_matrices_fit_or_are_refused(method, shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    try:
        fitted = factorize(matrix, method, 0.3)
    except LpCompressError as error:
        assert "smaller ratio" in str(error)
    else:
        assert fitted.n_bytes <= 0.7 * matrix.numel() * 4 and fitted.shape == shape


@pytest.mark.parametrize("method", ALL)
def test_wide_matrix(method):
    matrix = spectral_matrix(n=64, d=300, decay=0.95)
    fitted = factorize(matrix, method, ratio=0.5)
    assert 1 - fitted.n_bytes / (matrix.numel() * 4) >= 0.5
    assert relative_error(matrix, fitted.dense()) < 0.6


@pytest.mark.parametrize("method", ALL)
def test_rows_of_weight_zero_leave_the_size_to_the_others(method):
    matrix, weights = spectral_matrix(), torch.ones(600)
    weights[::2] = 0
    changed = matrix.clone()
    changed[::2] = 5 * torch.randn(300, 48, generator=torch.Generator().manual_seed(1))
    plain, weighted = (factorize(matrix, method, ratio=0.6, row_weights=w).dense() for w in (None, weights))
    after_change = factorize(changed, method, ratio=0.6, row_weights=weights).dense()
    errors = [relative_error(matrix[1::2], each[1::2]) for each in (plain, weighted, after_change)]
    assert errors[1] < 0.99 * errors[0]
    assert errors[2] == pytest.approx(errors[1], rel=0.1, abs=1e-4)  # whatever the rows of weight zero hold
    assert relative_error(matrix[::2], weighted[::2]) <= 1  # and their error is at most that of zeros


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("ratio", [0.01, 0.05])
def test_tiny_ratio_does_not_grow(method, ratio):
    matrix = spectral_matrix(n=3000, d=64)
    try:
        fitted = factorize(matrix, method, ratio=ratio)
    except LpCompressError as error:
        assert "ratio" in str(error)
    else:
        assert fitted.n_bytes <= (1 - ratio) * matrix.numel() * 4


@pytest.mark.parametrize("method", ALL)
def test_ratio_near_one_is_refused(method):
    with pytest.raises(LpCompressError, match="Ask for a smaller ratio"):
        factorize(spectral_matrix(), method, ratio=0.9999)


@pytest.mark.parametrize("method", sorted({*ALL} - {"coded", "auto"}))  # whose integers are smaller
def test_one_column_cannot_shrink(method):
    with pytest.raises(LpCompressError, match="smaller ratio"):
        factorize(torch.randn(50, 1), method, ratio=0.3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ratio": 28}, "did you mean 0.28"),
        ({"ratio": 0}, "between 0 and 1"),
        ({"ratio": 1.0}, "between 0 and 1"),
        ({"p": 3}, "p must be between 1 and 2"),
        ({"method": "pca"}, "method must be one of"),
        ({"clusters": 0}, "clusters must be at least 1"),
        ({"starts": 0}, "starts must be at least 1"),
        ({"distance_power": 0.5}, "distance_power must be between 1 and 2"),
        ({"row_weights": torch.ones(3)}, "one entry for each of the 600 rows"),
        ({"row_weights": torch.zeros(600)}, "must not all be zero"),
        ({"row_weights": -torch.ones(600)}, "finite and not negative"),
        ({"matrix": torch.ones(3, 3, 3)}, r"matrix must be two-dimensional, .* Got shape \(3, 3, 3\)"),
        ({"matrix": torch.ones(3, 3, dtype=torch.long)}, "floating-point, .* torch.int64"),
        ({"matrix": torch.full((30, 8), torch.nan)}, "not finite"),
        ({"matrix": torch.ones(30, 8, device="meta")}, r"not on the meta device\. Got .* on meta"),
        ({"matrix": torch.eye(8).to_sparse()}, r"dense and .* Got .* torch.sparse_coo"),
        ({"matrix": spectral_matrix().numpy()}, r"matrix must be a torch\.Tensor\. Got a ndarray"),
        ({"row_weights": [1.0] * 600}, r"row_weights must be a torch\.Tensor or None\. Got a list"),
        ({"ratio": "0.28"}, r"ratio must be a number\. Got a str"),
        ({"p": None}, r"p must be a number\. Got a NoneType"),
        ({"clusters": 2.5}, r"clusters must be a whole number or None\. Got a float"),
        ({"starts": "3"}, r"starts must be a whole number\. Got a str"),
        ({"seed": 0.5}, r"seed must be a whole number\. Got a float"),
    ],
)
def test_bad_arguments(change, sentence):
    arguments = {"matrix": spectral_matrix(), "method": "svd"} | change
    with pytest.raises(LpCompressError, match=sentence):
        factorize(**arguments)


def test_result_types():
    matrix = spectral_matrix()
    assert isinstance(factorize(matrix, "lp", ratio=0.5), LowRank)
    assert isinstance(factorize(matrix, "messi", ratio=0.5, clusters=2), Clustered)
    assert isinstance(factorize(matrix, "messi", ratio=0.5, clusters=1), LowRank)
