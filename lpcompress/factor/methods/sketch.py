"""Tensor sketches of a matrix from both sides, by fixed random signs.

A sketch is an architecture to train. As an approximation of a given matrix it is poor: at any compression, the unbiased
sketch is farther from the matrix than zero is, and the least-squares sketch is only a little nearer. Neither is
therefore a method of `factorize`.
"""

import torch
from torch import Tensor

from lpcompress.factor.problem import Budget
from lpcompress.formats.sketched import INPUTS, OUTPUTS, Sketched, sketch_signs


def unbiased_sketch(matrix: Tensor, size: int, repetitions: int, seed: int, patch: int = 1) -> Sketched:
    """Return the unbiased sketch of `matrix`, S_1i = U_1i A and S_2i = A U_2i^T; its mean over seeds is the matrix.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        Any floating dtype; half precision is computed in float32.
    size : int
        k, at least 1.
    repetitions : int
        l, at least 1.
    seed : int
    patch : int, default=1
        Height times width of the window, if the matrix is a convolution's kernel flattened to (outputs, all else).

    References
    ----------
    Kasiviswanathan, Narodytska, Jin, "Network Approximation using Tensor Sketching", IJCAI 2018.
    """
    work, first, second = _prepare(matrix, size, repetitions, seed, patch)
    return Sketched(work @ second.T, first @ work, repetitions, seed).to(matrix.dtype)


def nearest_sketch(matrix: Tensor, size: int, repetitions: int, seed: int, patch: int = 1) -> Sketched:
    """Return the sketch nearest to `matrix` in the Frobenius norm, given the signs.

    With P_1, P_2 the projectors onto the row spaces of U_1 and U_2, it is A - (I - P_1) A (I - P_2); the part
    P_1 A P_2, which either side can represent, is split equally. The parameters are those of `unbiased_sketch`.
    """
    work, first, second = _prepare(matrix, size, repetitions, seed, patch)
    above, beside = torch.linalg.pinv(first.T), torch.linalg.pinv(second)  # (l k, n), (d, l k patch)
    right, left = above @ work, work @ beside
    both = right @ beside  # (l k, l k patch)
    scale = 2 * repetitions
    return Sketched(scale * (left - first.T @ both / 2), scale * (right - both @ second / 2), repetitions, seed).to(
        matrix.dtype
    )


def largest_sketch(matrix: Tensor, n_bytes: int, repetitions: int = 1, patch: int = 1) -> int:
    """Return the largest k whose sketches take at most `n_bytes` in the dtype of `matrix` (n, d).

    Raises
    ------
    BudgetError
        If not even k = 1 fits.
    """
    unit = repetitions * patch
    return Budget(n_bytes, matrix.element_size()).rank(unit * matrix.shape[0], unit * (matrix.shape[1] // patch))


def _prepare(matrix: Tensor, size: int, repetitions: int, seed: int, patch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrix in float32 or better, U_1 and U_2."""
    work = matrix.detach().to(torch.promote_types(matrix.dtype, torch.float32))
    rows = size * repetitions
    first = sketch_signs(rows, work.shape[0], repetitions, seed, OUTPUTS, work)
    return work, first, sketch_signs(rows * patch, work.shape[1], repetitions, seed, INPUTS, work)
