"""The l2 baseline: truncated singular value decomposition."""

import torch
from torch import Tensor

from lpcompress.factor.allocation import Curve
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.low_rank import low_rank
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener, whitened
from lpcompress.formats.low_rank import LowRank


@whitened
def svd(matrix: Tensor, budget: Budget, settings: Settings) -> LowRank:
    """Return the best low-rank matrix in the Frobenius norm that fits the budget.

    Exact, not randomized: A V_k V_k^T with V_k the top eigenvectors of the d x d Gram matrix, in float64.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Gives rank floor(bytes / (item (n + d))).
    settings : Settings
        Not used: the SVD has no settings.

    Raises
    ------
    LpCompressError
        If not even rank 1 fits.

    References
    ----------
    Eckart and Young, "The approximation of one matrix by another of lower rank", Psychometrika 1 (1936).

    Examples
    --------
    >>> fitted = svd(torch.ones(6, 4), Budget(n_bytes=40, item=4), Settings())
    >>> fitted.ranks, bool(torch.allclose(fitted.dense(), torch.ones(6, 4)))
    ([1], True)
    """
    return low_rank(matrix, budget.rank(*matrix.shape))


def low_rank_curve(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None) -> Curve:
    """Return the exact loss of up to 65 ranks below break-even: the share of the spectrum's energy beyond the rank."""
    matrix = whitener(matrix) if whitener else matrix
    n, d = matrix.shape
    energies, _ = principal_axes(matrix)
    kept = energies.cumsum(0) / energies.sum().clamp_min(torch.finfo(energies.dtype).tiny)
    most = min((budget.n_bytes - 1) // (budget.item * (n + d)), len(energies))
    ranks = sorted({max(1, round(most * share)) for share in torch.linspace(0, 1, 65).tolist()}) if most else []
    losses = (1 - kept).clamp_min(0).tolist()
    return Curve.through((rank * budget.item * (n + d), losses[rank - 1]) for rank in ranks)
