"""The l2 baseline: truncated singular value decomposition."""

from torch import Tensor

from lpcompress.factor.factorization import LowRank
from lpcompress.factor.linalg import CHUNK, principal_axes
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
    return low_rank(matrix, budget.rank(*matrix.shape))


def fit_like(target: Tensor, previous: LowRank, budget: Budget) -> LowRank:
    """Return the best matrix of the same rank as `previous`."""
    return low_rank(target, previous.ranks[0])


def project_like(target: Tensor, previous: LowRank, budget: Budget) -> None:
    """Overwrite `target` by the best matrix of the same rank; one round of many, so products are not in float64."""
    _, axes = principal_axes(target, target.dtype)
    basis = axes[:, : previous.ranks[0]].to(target.dtype)
    for rows in target.split(CHUNK):
        rows.copy_(rows @ basis @ basis.T)


def low_rank(matrix: Tensor, rank: int) -> LowRank:
    """Project the rows on their `rank` principal axes."""
    _, axes = principal_axes(matrix)
    return on_basis(matrix, axes[:, :rank].to(matrix.dtype))


def on_basis(matrix: Tensor, basis: Tensor) -> LowRank:
    """Project the rows on the orthonormal columns of `basis`, (d, rank)."""
    return LowRank(left=matrix @ basis, right=basis.T.contiguous())
