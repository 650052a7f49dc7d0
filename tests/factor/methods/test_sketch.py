"""The sketches of a matrix against the paper's formulas, written out."""

import pytest
import torch

from lpcompress.factor.methods.sketch import nearest_sketch, unbiased_sketch
from lpcompress.factor.norms import relative_error
from lpcompress.formats.sketched import Sketched


@pytest.fixture
def matrix():
    return torch.randn(24, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def variance(matrix, x, width):
    """E||A'x - Ax||^2 of the two-sided mean: a quarter of the sum over both sides, for sketches of `width` = l k."""
    product, size = (matrix @ x).square().sum(), matrix.square().sum()
    outputs = (matrix.shape[0] - 1) * product
    inputs = x.square().sum() * size + product - 2 * (matrix.square() @ x.square()).sum()
    return float(outputs + inputs) / (4 * width)


@pytest.mark.parametrize(("size", "repetitions"), [(6, 1), (3, 2), (2, 5)])
def test_the_sketch_is_unbiased_with_the_variance_of_the_formula(matrix, size, repetitions):
    draws, x = 600, torch.linspace(-1, 2, 40, dtype=torch.float64)
    sketches = [unbiased_sketch(matrix, size, repetitions, seed).dense() for seed in range(draws)]
    deviations = torch.stack(sketches) - matrix
    standard_errors = deviations.std(0) / draws**0.5
    in_standard_errors = deviations.mean(0) / standard_errors  # 960 of them
    assert in_standard_errors.abs().max() < 5
    assert in_standard_errors.square().mean() == pytest.approx(1, abs=0.25)
    squares = (deviations @ x).square().sum(1)
    assert abs(squares.mean() - variance(matrix, x, size * repetitions)) < 4 * squares.std() / draws**0.5
    assert squares.std() / draws**0.5 < 0.05 * squares.mean()  # precise enough to reject a wrong formula


@pytest.mark.parametrize("patch", [1, 4])
def test_the_paper_written_out(matrix, patch):
    sketch = unbiased_sketch(matrix, size=3, repetitions=2, seed=7, patch=patch)
    first, second = sketch.signs()
    assert first.unique().tolist() == pytest.approx([-(3**-0.5), 3**-0.5])
    assert second.unique().tolist() == pytest.approx([-((3 * patch) ** -0.5), (3 * patch) ** -0.5])
    total = torch.zeros_like(matrix)
    for u1, u2 in zip(first.split(3), second.split(3 * patch), strict=True):
        total += u1.T @ (u1 @ matrix) + (matrix @ u2.T) @ u2
    torch.testing.assert_close(sketch.dense(), total / 4)
    assert sketch.n_parameters == 2 * 3 * (40 + patch * 24) and sketch.shape == (24, 40)
    assert sketch.ranks == [6 + 6 * patch] and sketch.rows == [24]


@pytest.mark.parametrize("patch", [1, 2])
def test_no_sketch_with_these_signs_is_nearer(matrix, patch):
    sketch = nearest_sketch(matrix, size=2, repetitions=3, seed=1, patch=patch)
    left, right = (part.clone().requires_grad_() for part in (sketch.left, sketch.right))
    distance = (Sketched(left, right, 3, 1).dense() - matrix).square().sum()
    for gradient in torch.autograd.grad(distance, (left, right)):  # a convex problem: stationary is optimal
        assert gradient.abs().max() < 1e-10
    assert relative_error(matrix, sketch.dense()) < 1 < relative_error(matrix, unbiased_sketch(matrix, 6, 1, 1).dense())


def test_a_representable_matrix_is_recovered(matrix):
    first, second = unbiased_sketch(matrix, 4, 1, 5).signs()
    planted = first.T @ matrix[:4] + matrix[:, :4] @ second
    assert relative_error(planted, nearest_sketch(planted, 4, 1, 5).dense()) < 1e-10


@pytest.mark.parametrize("fit", [unbiased_sketch, nearest_sketch])
def test_half_precision(matrix, fit):
    half = fit(matrix.half(), 6, 1, 0)
    assert half.left.dtype == half.right.dtype == torch.float16
    torch.testing.assert_close(half.dense().double(), fit(matrix, 6, 1, 0).dense(), atol=0.1, rtol=0.02)
