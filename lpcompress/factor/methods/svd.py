"""The l2 baseline: truncated singular value decomposition."""

from torch import Tensor

from lpcompress.factor.low_rank import low_rank
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import whitened
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
    >>> import torch
    >>> fitted = svd(torch.ones(6, 4), Budget(n_bytes=40, item=4), Settings())
    >>> fitted.ranks, bool(torch.allclose(fitted.dense(), torch.ones(6, 4)))
    ([1], True)
    """
    return low_rank(matrix, budget.rank(*matrix.shape))
