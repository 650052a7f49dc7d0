"""A plain layer as a matrix."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import FactoredMatrix, role_of


def matrix_of(module: nn.Module) -> Tensor:
    """Return the weight of a plain layer as a matrix of shape (n, d), rows being tokens or outputs."""
    return _role_of(module).matrix_of(module).detach()


def inputs_of(module: nn.Module, hidden: Tensor) -> Tensor:
    """Return what the matrix of a plain layer is multiplied by when the layer is given `hidden`: (products, d)."""
    return _role_of(module).inputs_of(module, hidden)


def outputs_of(module: nn.Module, output: Tensor) -> Tensor:
    """Return what a plain layer returns, product by product as its inputs are: (products, n)."""
    return _role_of(module).outputs_of(module, output)


def _role_of(module: nn.Module) -> type[FactoredMatrix]:
    role = role_of(module)
    if role is None:
        raise LpCompressError(f"a {type(module).__name__} has no matrix that can be factored.")
    return role


@contextmanager
def row_of_zeros(matrix: Tensor, row: int | None) -> Iterator[None]:
    """Lend `matrix` out with one row blanked, instead of a copy of it."""
    if row is None:
        yield
        return
    kept = matrix[row].clone()
    matrix[row] = 0
    try:
        yield
    finally:
        matrix[row] = kept
