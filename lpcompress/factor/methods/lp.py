"""Low rank in the entrywise l_p norm."""

import torch
from torch import Tensor

from lpcompress.factor.lewis import lewis_ellipsoid
from lpcompress.factor.linalg import fix_signs, principal_axes
from lpcompress.factor.low_rank import on_basis
from lpcompress.factor.norms import power_sum
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import whitened
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.packing import CHUNK


@whitened
def lp(matrix: Tensor, budget: Budget, settings: Settings) -> LowRank:
    """Return the better of two starts in the entrywise l_p norm; `robust` then descends from it.

    The provable start projects the rows on the k longest axes of the Löwner ellipsoid of
    {x : ||A x||_p <= 1}, taken from Lewis weights. Its l_p error is within d^(1/p) sqrt(d - k) of the
    least any rank-k matrix can have. At the size of an embedding that guarantee is weaker than SVD's
    own, sqrt(n d) at p = 1, so SVD's subspace is the other start.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Buys the same rank as for `svd`.
    settings : Settings
        p in [1, 2]; with p = 2 the result is that of `svd`.

    Raises
    ------
    LpCompressError
        If not even rank 1 fits.

    References
    ----------
    Tukan, Maalouf, Weksler, Feldman, "Compressed Deep Networks: Goodbye SVD, Hello Robust Low-Rank
    Approximation", arXiv:2009.05647 (the ellipsoid, by another algorithm: there by cutting planes).
    Cohen and Peng, "l_p row sampling by Lewis weights", STOC 2015.
    """
    rank = budget.rank(*matrix.shape)
    _, axes = principal_axes(matrix)
    basis = axes[:, :rank].to(matrix.dtype)
    error = _error_on(matrix, basis, settings.p)
    if settings.p < 2 and error > 0:
        provable = lewis_basis(matrix, axes, rank, settings.p)
        basis = provable if _error_on(matrix, provable, settings.p) < error else basis
    return on_basis(matrix, basis)


def lewis_basis(matrix: Tensor, axes: Tensor, rank: int, p: float) -> Tensor:
    """Return the `rank` longest axes of the ellipsoid of {x : ||A x||_p <= 1}, shape (d, rank).

    A matrix without full column rank is rotated into its row space first.

    Parameters
    ----------
    axes : Tensor of shape (d, m)
        Principal axes of the matrix, most important first.
    """
    inside = axes.to(matrix.dtype)
    lengths = sum((rows @ inside).square().sum(dim=0, dtype=torch.float64) for rows in matrix.split(CHUNK))
    known = int((lengths > lengths.max() * (100 * torch.finfo(matrix.dtype).eps) ** 2).sum())
    if known == matrix.shape[1]:
        return _longest(lewis_ellipsoid(matrix, p), rank).to(matrix.dtype)
    inside = inside[:, :known]
    return inside @ _longest(lewis_ellipsoid(matrix @ inside, p), rank).to(matrix.dtype)


def _longest(ellipsoid: Tensor, rank: int) -> Tensor:
    return fix_signs(torch.linalg.eigh(ellipsoid).eigenvectors.flip(1))[:, :rank]


def _error_on(matrix: Tensor, basis: Tensor, p: float) -> float:
    """Return the sum of |residual|^p after projection on the orthonormal columns of `basis`."""
    return sum(power_sum(rows - rows @ basis @ basis.T, p) for rows in matrix.split(CHUNK))
