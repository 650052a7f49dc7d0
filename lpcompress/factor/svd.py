"""The l2 baseline: truncated singular value decomposition."""

from torch import Tensor

from lpcompress.factor.factorization import LowRank
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.problem import Budget, Settings


def svd(matrix: Tensor, budget: Budget, settings: Settings) -> LowRank:
    """Return the best low-rank matrix in the Frobenius norm that fits the budget.

    Exact, not randomized: A V_k V_k^T with V_k the top eigenvectors of the d x d Gram matrix, in float64.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Buys rank floor(bytes / (item (n + d))).
    settings : Settings
        Not used: SVD has nothing to choose.

    Raises
    ------
    LpCompressError
        If not even rank 1 fits.

    References
    ----------
    Eckart and Young, "The approximation of one matrix by another of lower rank", Psychometrika 1 (1936).
    """
    return project(matrix, budget.rank(*matrix.shape))


def refit(target: Tensor, previous: LowRank) -> LowRank:
    """Return the best matrix of the same rank as `previous`."""
    return project(target, previous.ranks[0])


def project(matrix: Tensor, rank: int) -> LowRank:
    """Project the rows on their `rank` principal axes."""
    _, axes = principal_axes(matrix)
    basis = axes[:, :rank].to(matrix.dtype)
    return LowRank(left=matrix @ basis, right=basis.T.contiguous())
