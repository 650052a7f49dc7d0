"""Dense linear algebra on tall matrices: Gram matrices, principal axes, nearest orthonormal rows."""

import torch
from torch import Tensor

BANDS = 4  # of columns, when only the upper triangle of a Gram matrix is computed
DEPENDENT = 1e-10  # share of the largest eigenvalue; below, A^T u / s are not orthogonal to single precision
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

    Through the d x d Gram matrix for tall matrices, m = d; through the n x n one for wide ones, m = n, or, if their
    rows depend on each other, an SVD of the matrix itself. Signs are fixed: the largest entry of each vector is
    positive.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return principal_axes_of_wide(matrix)
    values, vectors = torch.linalg.eigh(gram(matrix, dtype))
    return values.flip(0).clamp_min(0), fix_signs(vectors.flip(1))


def principal_axes_of_wide(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same for n < d: the eigenvectors of A^T A are A^T u / s, with u and s^2 those of A A^T."""
    values, vectors = torch.linalg.eigh(gram(matrix.T))
    if values[0] <= DEPENDENT * values[-1]:
        _, lengths, axes = torch.linalg.svd(matrix.double(), full_matrices=False)
        return lengths.square(), fix_signs(axes.T)
    axes = vectors.new_empty(matrix.shape[1], matrix.shape[0])
    vectors = vectors.flip(1) / values.flip(0).sqrt()
    for some, columns in zip(axes.split(CHUNK), matrix.split(CHUNK, dim=1), strict=True):
        torch.matmul(columns.T.double(), vectors, out=some)
    return values.flip(0), fix_signs(axes)


def fix_signs(vectors: Tensor) -> Tensor:
    """Flip columns, in place, so that the entry of largest magnitude is positive."""
    low, high = vectors.aminmax(dim=0)
    return vectors.mul_(torch.where(high >= -low, 1, -1))


def orthonormal_rows(matrix: Tensor, rounds: int) -> Tensor:
    """Return the nearest matrix with orthonormal rows, by `rounds` Newton-Schulz steps.

    Parameters
    ----------
    matrix : Tensor of shape (m, d)
        All singular values must lie in (0, sqrt(3)); close to 1, two rounds are exact to float32.
    """
    for _ in range(rounds):
        matrix = 1.5 * matrix - 0.5 * (matrix @ matrix.T) @ matrix
    return matrix


def spectral_norm(matrix: Tensor, rounds: int = 4) -> float:
    """Return the largest singular value, to a few per cent from below, by power iteration."""
    vector = matrix[matrix.norm(dim=1).argmax()]
    for _ in range(rounds):
        vector = matrix.T @ (matrix @ (vector / vector.norm().clamp_min(torch.finfo(matrix.dtype).tiny)))
    return float(vector.norm().sqrt())
