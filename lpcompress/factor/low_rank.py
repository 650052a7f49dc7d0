"""Shared by `svd` and `lp`: a `LowRank` from a basis, and its least-squares refit."""

from torch import Tensor

from lpcompress.factor.linalg import principal_axes, project_rows
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
