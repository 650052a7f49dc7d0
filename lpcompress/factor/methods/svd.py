"""The l2 baseline: truncated singular value decomposition."""

from collections.abc import Iterator

from torch import Tensor, no_grad

from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.low_rank import low_rank, on_basis
from lpcompress.factor.preparation import prepare
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import whitened
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.packing import CHUNK
from lpcompress.progress import Told, stretch, unheard

AXES = 0.7  # share of the work in which the axes are found


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
        Only `told` is used: the SVD has no settings.

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
    return low_rank(matrix, budget.rank(*matrix.shape), stretch(settings.told, 0, AXES))


@no_grad()
def spectrum_and_parts(matrix: Tensor, ratio: float, told: Told = unheard) -> tuple[Tensor, Iterator[Tensor]]:
    """Return squares of singular values, descending, and the matrix that `svd` makes, some rows at a time.

    Its codes, as many as rows, are never in memory.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        Any floating dtype, in which the factors are rounded.
    ratio : float
        Share of the bytes to remove.
    told : callable (share), optional
        Takes the share of the spectrum that is done.

    Raises
    ------
    UnsuitableError
        When rows are asked for, if not even rank 1 fits, or a factor is beyond the range of the dtype.
    """
    plain, scale = prepare(matrix)
    values, axes = principal_axes(plain, told=told)

    def parts() -> Iterator[Tensor]:
        basis = axes[:, : Budget.of(matrix, ratio).rank(*matrix.shape)].to(plain.dtype)
        for rows in plain.split(CHUNK):
            yield scale.undo(on_basis(rows, basis), matrix.dtype).dense()

    return values, parts()
