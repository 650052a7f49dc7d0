"""Shared by `svd` and `lp`: a `LowRank` from a basis, its least-squares refit, and the least error of a rank."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lpcompress.factor.linalg import TINY, gram_of, principal_axes, project_rows
from lpcompress.factor.problem import Budget
from lpcompress.factor.robust import project, refit
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.packing import CHUNK
from lpcompress.progress import Told, unheard


def low_rank(matrix: Tensor, rank: int, told: Told = unheard) -> LowRank:
    """Project the rows onto their first `rank` principal axes: the nearest matrix of this rank."""
    _, axes = principal_axes(matrix, told=told)
    return on_basis(matrix, axes[:, :rank].to(matrix.dtype))


def on_basis(matrix: Tensor, basis: Tensor) -> LowRank:
    """Project the rows onto the orthonormal columns of `basis`, (d, rank)."""
    return LowRank(left=matrix @ basis, right=basis.T.contiguous())


def least_error(parts: Iterable[Tensor], like: Tensor, budget: Budget) -> float:
    """Return the relative l_2 error of the nearest matrix whose rank fits, from the singular values alone.

    Parameters
    ----------
    parts : iterable of Tensor
        The matrix, some rows at a time; it is never in memory as a whole.
    like : Tensor of shape (n, d)
        Gives the shape and the device.
    budget : Budget

    Returns
    -------
    float
        0 if not even rank 1 fits, or the matrix is wider than it is tall: a fit of it then costs less than this.

    References
    ----------
    Eckart and Young, "The approximation of one matrix by another of lower rank", Psychometrika 1936.

    Examples
    --------
    >>> budget = Budget(n_bytes=20, item=4)  # rank 1
    >>> matrix = torch.tensor([[0.8, 0.0], [0.0, 0.6], [0.0, 0.0]])
    >>> round(least_error([matrix], matrix, budget), 6)
    0.6
    """
    rows, columns = like.shape
    if rows < columns or budget.n_bytes < budget.item * (rows + columns):
        return 0.0
    squares = torch.linalg.eigvalsh(gram_of((part.double() for part in parts), like)).clamp_min(0)
    left_out = squares[: columns - budget.rank(rows, columns)]  # ascending
    return float((left_out.sum() / squares.sum().clamp_min(TINY)).sqrt())


@refit.register
def _refit(like: LowRank, target: Tensor, budget: Budget) -> LowRank:
    """Return the nearest matrix of the same rank."""
    return low_rank(target, like.ranks[0])


@project.register
def _project(like: LowRank, target: Tensor, budget: Budget) -> None:
    """Overwrite `target` with the nearest matrix of the same rank; not in float64, as one round of many."""
    axes = principal_axes(target, target.dtype)[1].to(target.dtype)
    for rows in target.split(CHUNK):
        project_rows(rows, axes, like.ranks[0])
