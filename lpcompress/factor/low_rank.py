"""Shared by `svd` and `lp`: a `LowRank` from a basis, its least-squares refit, and the error of that."""

from collections.abc import Callable, Iterable

from torch import Tensor

from lpcompress.factor.linalg import TINY, axes_of, gram_of, principal_axes, project_rows
from lpcompress.factor.norms import power_sum, quotient
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


def least_squares_error(parts: Callable[[], Iterable[Tensor]], like: Tensor, budget: Budget, p: float) -> float:
    """Return the relative l_p error of the nearest matrix in l_2 whose rank fits, without making it.

    At p = 2 it follows from the singular values.

    Parameters
    ----------
    parts : callable () -> iterable of Tensor
        Returns the matrix, some rows at a time; it is never in memory as a whole.
    like : Tensor of shape (n, d)
        Gives the shape and the device.
    budget : Budget
    p : float

    Returns
    -------
    float
        0 if not even rank 1 fits, or the matrix is wider than it is tall: a fit of it then costs less than this.

    References
    ----------
    Eckart and Young, "The approximation of one matrix by another of lower rank", Psychometrika 1936.

    Examples
    --------
    >>> import torch
    >>> budget = Budget(n_bytes=20, item=4)  # rank 1
    >>> matrix = torch.tensor([[0.8, 0.0], [0.0, 0.6], [0.0, 0.0]])
    >>> [round(least_squares_error(lambda: [matrix], matrix, budget, p), 4) for p in (2.0, 1.0)]
    [0.6, 0.4286]
    """
    rows, columns = like.shape
    if rows < columns or budget.n_bytes < budget.item * (rows + columns):
        return 0.0
    rank, (squares, axes) = budget.rank(rows, columns), axes_of(gram_of((part.double() for part in parts()), like))
    if p == 2:
        return float((squares[rank:].sum() / squares.sum().clamp_min(TINY)).sqrt())
    whole = sum(power_sum(part, p) for part in parts())
    return quotient(residual_power(parts(), axes, rank, p), whole) ** (1 / p)


def residual_power(parts: Iterable[Tensor], axes: Tensor, rank: int, p: float) -> float:
    """Return the sum of |residual|^p after projection of rows onto the first `rank` of orthonormal axes."""
    return sum(power_sum(rows - project_rows(rows.clone(), axes.to(rows.dtype), rank), p) for rows in parts)


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
