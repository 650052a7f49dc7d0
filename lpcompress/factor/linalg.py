"""Dense linear algebra on tall matrices: Gram matrices and principal axes."""

import torch
from torch import Tensor

BANDS = 4  # of columns, when only the upper triangle of a Gram matrix is computed
CHUNK = 1024  # rows that are converted or multiplied at a time, so that no second copy of a matrix is made


def gram(matrix: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return matrix.T @ matrix in float64, shape (d, d).

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    dtype : torch.dtype
        Precision of the products. float32 halves the time; sums over chunks of rows are float64 either way.
    """
    d = matrix.shape[1]
    width = max(1, -(-d // BANDS))
    total = matrix.new_zeros(d, d, dtype=torch.float64)
    for start in range(0, matrix.shape[0], CHUNK):
        rows = matrix[start : start + CHUNK].to(dtype)
        for left in range(0, d, width):  # the lower triangle follows by symmetry
            total[left : left + width, left:] += rows[:, left : left + width].T @ rows[:, left:]
    total.triu_()
    total += total.triu(1).T
    return total


def principal_axes(matrix: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (m,), descending, and eigenvectors (d, m) of the Gram matrix, both float64.

    Through the d x d Gram matrix for tall matrices, m = d; through an SVD of the matrix itself for
    wide ones, m = n. Signs are fixed: the largest entry of each vector is positive.
    """
    if matrix.shape[0] < matrix.shape[1]:
        _, values, axes = torch.linalg.svd(matrix.double(), full_matrices=False)
        return values.square(), fix_signs(axes.T)
    values, vectors = torch.linalg.eigh(gram(matrix, dtype))
    return values.flip(0).clamp_min(0), fix_signs(vectors.flip(1))


def fix_signs(vectors: Tensor) -> Tensor:
    """Flip columns so that the entry of largest magnitude is positive."""
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    return vectors * vectors.gather(0, largest).sign()
