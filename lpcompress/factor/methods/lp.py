"""Low rank in the entrywise l_p norm."""

import torch
from torch import Tensor

from lpcompress.factor.lewis import lewis_ellipsoid
from lpcompress.factor.linalg import fix_signs, principal_axes
from lpcompress.factor.low_rank import on_basis, residual_power
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import whitened
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.packing import CHUNK


@whitened
def lp(matrix: Tensor, budget: Budget, settings: Settings) -> LowRank:
    """Return the better of two starts in the entrywise l_p norm; `robust` then lowers its error.

    The provable start projects the rows onto the k leading eigenvectors of the matrix M of the
    ellipsoid {x : x^T M x <= 1} around {x : ||A x||_p <= 1}, from Lewis weights. Its l_p error is at most
    d^(1/p) sqrt(d - k) times that of the best rank-k matrix. At the size of an embedding this guarantee
    is weaker than that of the SVD, sqrt(n d) at p = 1, so the SVD's subspace is the other start.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Gives the same rank as for `svd`.
    settings : Settings
        p in [1, 2]; with p = 2 the result is that of `svd`.

    Raises
    ------
    LpCompressError
        If not even rank 1 fits.

    References
    ----------
    Tukan, Maalouf, Weksler, Feldman, "Compressed Deep Networks: Goodbye SVD, Hello Robust Low-Rank
    Approximation", arXiv:2009.05647 (the ellipsoid; there the Löwner ellipsoid, by cutting planes).
    Cohen and Peng, "l_p row sampling by Lewis weights", STOC 2015.

    Examples
    --------
    With the outer loop, one outlier does not move the other rows:

    >>> from lpcompress import factorize
    >>> matrix = torch.ones(40, 8)
    >>> matrix[3, 5] = 50
    >>> [round(float(factorize(matrix, "lp", ratio=0.8, p=p).dense()[0, 0]), 1) for p in (1.0, 2.0)]
    [1.0, 0.0]
    """
    rank = budget.rank(*matrix.shape)
    axes = principal_axes(matrix, told=settings.told)[1].to(matrix.dtype)
    if settings.p < 2 and (error := residual_power(matrix.split(CHUNK), axes, rank, settings.p)) > 0:
        provable = lewis_axes(matrix, axes, settings.p)
        axes = provable if residual_power(matrix.split(CHUNK), provable, rank, settings.p) < error else axes
    return on_basis(matrix, axes[:, :rank])


def lewis_axes(matrix: Tensor, inside: Tensor, p: float) -> Tensor:
    """Return the eigenvectors of the ellipsoid of {x : ||A x||_p <= 1}, the largest first: shape (d, k).

    A matrix without full column rank is first restricted to its row space, of k dimensions.

    Parameters
    ----------
    inside : Tensor of shape (d, m)
        Principal axes of the matrix, by descending eigenvalue.
    """
    lengths = sum((rows @ inside).square().sum(dim=0, dtype=torch.float64) for rows in matrix.split(CHUNK))
    known = int((lengths > lengths.max() * (100 * torch.finfo(matrix.dtype).eps) ** 2).sum())
    if known == matrix.shape[1]:
        return _descending(lewis_ellipsoid(matrix, p)).to(matrix.dtype)
    inside = inside[:, :known]
    return inside @ _descending(lewis_ellipsoid(matrix @ inside, p)).to(matrix.dtype)


def _descending(ellipsoid: Tensor) -> Tensor:
    return fix_signs(torch.linalg.eigh(ellipsoid).eigenvectors.flip(1))
