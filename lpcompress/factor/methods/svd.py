"""The l2 baseline: truncated singular value decomposition."""

import torch
from torch import Tensor

from lpcompress.factor.allocation import Curve
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.packing import CHUNK


def low_rank_curve(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None) -> Curve:
    """Return the loss of ranks up to break-even, exactly: the energy beyond them in the spectrum."""
    matrix = whitener(matrix) if whitener else matrix
    n, d = matrix.shape
    energies, _ = principal_axes(matrix)
    kept = energies.cumsum(0) / energies.sum().clamp_min(torch.finfo(energies.dtype).tiny)
    most = min((budget.n_bytes - 1) // (budget.item * (n + d)), len(energies))
    ranks = sorted({max(1, round(most * share)) for share in torch.linspace(0, 1, 65).tolist()}) if most else []
    losses = (1 - kept).clamp_min(0).tolist()
    return Curve.through((rank * budget.item * (n + d), losses[rank - 1]) for rank in ranks)


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
