"""The baseline: factors, and the same matrix without them."""

import pytest
import torch

from lpcompress.errors import UnsuitableError
from lpcompress.factor import factorize
from lpcompress.factor.methods.svd import spectrum_and_parts


@pytest.mark.parametrize(("rows", "columns"), [(2500, 12), (9, 40)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 1e-2)])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_parts_are_those_of_the_factorization(rows, columns, dtype, tolerance, scale):
    matrix = (torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * scale).to(dtype)
    expected = factorize(matrix, "svd", ratio=0.5).dense()
    squares, parts = spectrum_and_parts(matrix, ratio=0.5)
    lengths = torch.linalg.svdvals(matrix.double())
    torch.testing.assert_close(squares / squares[0], (lengths / lengths[0]).square(), atol=tolerance, rtol=tolerance)
    found = torch.cat(list(parts))
    torch.testing.assert_close(found, expected, atol=tolerance * scale, rtol=tolerance)


def test_a_size_below_rank_1_is_refused():
    with pytest.raises(UnsuitableError, match="the smallest factorization needs"):
        next(spectrum_and_parts(torch.ones(20, 30), ratio=0.99)[1])
