"""Dense linear algebra on tall matrices: Gram matrices and principal axes."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lpcompress.formats.packing import CHUNK
from lpcompress.progress import Told, unheard

TINY = torch.finfo(torch.float64).tiny
SHARES = (0.10, 0.25, 0.50, 0.75)  # of the singular values, largest first
BANDS = 4  # column bands, so that only the upper triangle of a Gram matrix is computed
DEPENDENT = 1e-10  # share of the largest eigenvalue; below it, the A^T u / s are not orthogonal to single precision


def gram(matrix: Tensor, dtype: torch.dtype = torch.float64, told: Told = unheard) -> Tensor:
    """Return matrix.T @ matrix in float64, shape (d, d).

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    dtype : torch.dtype
        Precision of the products. float32 halves the time; sums over chunks of rows are float64 either way.
    told : callable (share), optional
        Takes the share of the rows that are done.
    """

    def rows_of(done: int) -> Tensor:
        told(done / len(matrix))
        return matrix[done : done + CHUNK].to(dtype)

    return gram_of(map(rows_of, range(0, len(matrix), CHUNK)), matrix)


def gram_of(parts: Iterable[Tensor], like: Tensor) -> Tensor:
    """Return the Gram matrix of the rows in `parts`, float64 (d, d); `like` (any, d) gives the width and the device."""
    d = like.shape[1]
    width = max(1, -(-d // BANDS))
    total = like.new_zeros(d, d, dtype=torch.float64)
    for rows in parts:
        for left in range(0, d, width):  # the lower triangle follows by symmetry
            total[left : left + width, left:] += rows[:, left : left + width].T @ rows[:, left:]
    total.triu_()
    total += total.triu(1).T
    return total


def principal_axes(matrix: Tensor, dtype: torch.dtype = torch.float64, told: Told = unheard) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (m,), descending, and eigenvectors (d, m) of the Gram matrix, both float64.

    Tall matrices use the d x d Gram matrix, m = d. Wide ones use the n x n Gram matrix, m = n, or an SVD of the matrix
    itself if their rows are linearly dependent. Signs are fixed: the entry of largest magnitude in each vector is
    positive. `told` takes the share of the work that is done, if it is known.

    Examples
    --------
    >>> values, axes = principal_axes(torch.tensor([[3.0, 0.0], [0.0, -1.0], [0.0, 1.0]]))
    >>> values
    tensor([9., 2.], dtype=torch.float64)
    """
    if matrix.shape[0] < matrix.shape[1]:
        return principal_axes_of_wide(matrix)
    return axes_of(gram(matrix, dtype, told))


def axes_of(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (d,), descending, and eigenvectors (d, d) of a Gram matrix, with signs as `principal_axes`."""
    values, vectors = torch.linalg.eigh(gram)
    return values.flip(0).clamp_min(0), fix_signs(vectors.flip(1))


def principal_axes_of_wide(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same for n < d: the eigenvectors of A^T A are A^T u / s, with u and s^2 the eigenpairs of A A^T."""
    values, vectors = torch.linalg.eigh(gram(matrix.T))
    if values[0] <= DEPENDENT * values[-1]:
        _, lengths, axes = torch.linalg.svd(matrix.double(), full_matrices=False)
        return lengths.square(), fix_signs(axes.T)
    axes = vectors.new_empty(matrix.shape[1], matrix.shape[0])
    vectors = vectors.flip(1) / values.flip(0).sqrt()
    for some, columns in zip(axes.split(CHUNK), matrix.split(CHUNK, dim=1), strict=True):
        torch.matmul(columns.T.double(), vectors, out=some)
    return values.flip(0), fix_signs(axes)


def project_rows(rows: Tensor, axes: Tensor, rank: int) -> Tensor:
    """Project rows (m, d), in place, onto the first `rank` of orthonormal axes (d, k), and return them.

    By products with the axes inside or, if all are known, with those outside, whichever are fewer.

    Examples
    --------
    >>> project_rows(torch.tensor([[3.0, 2.0, 1.0]]), torch.eye(3), rank=2)
    tensor([[3., 2., 0.]])
    """
    d, known = axes.shape
    if known == d and 2 * rank > d:
        outside = axes[:, rank:]
        return rows.addmm_(rows @ outside, outside.T, alpha=-1)
    inside = axes[:, :rank]
    return torch.mm(rows @ inside, inside.T, out=rows)


def fix_signs(vectors: Tensor) -> Tensor:
    """Flip the signs of columns, in place, so that the entry of largest magnitude in each is positive."""
    low, high = vectors.aminmax(dim=0)
    return vectors.mul_(torch.where(high >= -low, 1, -1))


def energy_of(values: Tensor) -> dict[str, float]:
    """Return how much of a matrix is in its largest singular values: how well a low rank approximates it.

    Parameters
    ----------
    values : float64 Tensor of shape (m,)
        Squares of the singular values, descending.

    Returns
    -------
    dict of str to float
        Share of singular values, largest first, such as "0.10" -> their share of the sum of squares.

    Examples
    --------
    >>> energy_of(torch.tensor([9.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    {'0.10': 0.75, '0.25': 0.75, '0.50': 0.8333333333333334, '0.75': 0.9166666666666666}
    """
    kept = values.cumsum(0) / values.sum().clamp(min=TINY)
    return {f"{share:.2f}": float(kept[max(round(share * len(values)), 1) - 1]) for share in SHARES}
