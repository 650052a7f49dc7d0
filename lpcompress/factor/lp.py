"""Low rank in the entrywise l_p norm."""

import torch
from torch import Tensor

from lpcompress.factor.factorization import LowRank
from lpcompress.factor.lewis import lewis_ellipsoid
from lpcompress.factor.linalg import fix_signs, principal_axes
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.svd import project


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
    least_squares = project(matrix, rank)
    if settings.p == 2:
        return least_squares
    provable = lewis_start(matrix, rank, settings.p)
    return min((least_squares, provable), key=lambda start: relative_error(matrix, start.dense(), settings.p))


def lewis_start(matrix: Tensor, rank: int, p: float) -> LowRank:
    """Project the rows on the `rank` longest axes of the ellipsoid of {x : ||A x||_p <= 1}.

    A matrix without full column rank is rotated into its row space first.
    """
    values, axes = principal_axes(matrix)
    inside = axes[:, values > values[0] * matrix.shape[0] * torch.finfo(matrix.dtype).eps ** 2].to(
        matrix.dtype
    )
    ellipsoid = lewis_ellipsoid(matrix @ inside, p)
    _, vectors = torch.linalg.eigh(ellipsoid)
    basis = inside @ fix_signs(vectors.flip(1))[:, :rank].to(matrix.dtype)
    return LowRank(left=matrix @ basis, right=basis.T.contiguous())
