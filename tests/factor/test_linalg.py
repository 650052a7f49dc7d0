import pytest
import torch

from lpcompress.factor.linalg import principal_axes


@pytest.mark.parametrize("shape", [(50, 20), (20, 50), (20, 20), (1, 5)])
@pytest.mark.parametrize("decay", [0, -6])  # decimal orders of magnitude between the first row and the last
def test_principal_axes_are_those_of_the_svd(shape, decay):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix *= torch.logspace(0, decay, shape[0], dtype=torch.float64).unsqueeze(1)
    values, axes = principal_axes(matrix)
    size = min(shape)
    expected = torch.linalg.svdvals(matrix).square()
    torch.testing.assert_close(values[:size], expected, atol=1e-12 * float(expected[0]), rtol=1e-9)
    torch.testing.assert_close(axes.T @ axes, torch.eye(axes.shape[1], dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close((matrix @ axes).norm(dim=0)[:size].square(), expected, atol=1e-9, rtol=1e-6)
    assert (axes.gather(0, axes.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("rows", [2, 3])
def test_dependent_rows_have_orthonormal_axes(rows):
    row = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    values, axes = principal_axes(row.repeat(rows, 1))
    torch.testing.assert_close(axes.T @ axes, torch.eye(rows, dtype=torch.float64), atol=1e-9, rtol=0)
    assert values[0] == pytest.approx(rows * float(row.double().square().sum()))
