"""Entrywise l_p errors and the proximal map of |x|^p."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lpcompress.factor.scaling import excess_of, times_power
from lpcompress.formats.packing import CHUNK


def power_sum(rows: Tensor, p: float) -> float:
    """Return the sum of |x_ij|^p over all entries; rows are added in float64."""
    return float(row_powers(rows, p).sum())


def power_sum_of_difference(matrix: Tensor, approximation: Tensor, p: float) -> float:
    """Return the sum of |a_ij - b_ij|^p, a few rows at a time."""
    chunks = zip(matrix.split(CHUNK), approximation.split(CHUNK), strict=True)
    return sum(power_sum(rows - fitted, p) for rows, fitted in chunks)


Sum = Callable[[Tensor, slice], float]
"""What an error adds up: a function of some rows of a matrix and of where they are."""


@dataclass(frozen=True, eq=False)
class Powers:
    """Sums w_i |x_ij|^p.

    Attributes
    ----------
    p : float
    row_weights : Tensor of shape (n,), optional
        Weight of each row's powers; all ones by default.
    """

    p: float = 2.0
    row_weights: Tensor | None = None

    @cached_property
    def _weights(self) -> Tensor | None:
        weights = None if self.row_weights is None else self.row_weights.double()
        return None if weights is None else times_power(weights, -excess_of(weights))

    def __call__(self, rows: Tensor, where: slice) -> float:
        """Return the sum over some rows."""
        powers = row_powers(rows, self.p)
        return float((powers if self._weights is None else powers * self._weights[where].to(powers.device)).sum())


@torch.no_grad()
def quotients(matrix: Tensor, parts: Iterable[Tensor], sums: Collection[Sum]) -> dict[Sum, float]:
    """Return each sum over the errors of an approximation, divided by the sum over the matrix.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        Any floating dtype; differences are taken in float32 or better, sums in float64.
    parts : iterable of Tensor
        The approximation, some rows at a time: see `Factorization.dense_parts`.
    sums : collection of callables
        Homogeneous: of rows that are all divided by the same number, so that nothing overflows.

    Returns
    -------
    dict of callable to float
        As for `quotient`; not finite if the approximation is not.
    """
    work, excess, start = torch.promote_types(matrix.dtype, torch.float32), excess_of(matrix), 0
    errors, sizes = dict.fromkeys(sums, 0.0), dict.fromkeys(sums, 0.0)
    for part in parts:
        for approximate in part.split(CHUNK):
            where = slice(start, start + len(approximate))
            rows, fitted = (times_power(each.to(work), -excess) for each in (matrix[where], approximate))
            for each in errors:
                errors[each] += each(rows - fitted, where)
                sizes[each] += each(rows, where)
            start = where.stop
    return {each: quotient(error, sizes[each]) for each, error in errors.items()}


def relative_error(matrix: Tensor, approximation: Tensor, p: float = 2.0, row_weights: Tensor | None = None) -> float:
    """Return (sum w_i |a_ij - b_ij|^p / sum w_i |a_ij|^p)^(1/p).

    Parameters
    ----------
    matrix, approximation : Tensor of shape (n, d)
        As for `quotients`.
    p, row_weights
        As for `Powers`.

    Examples
    --------
    >>> relative_error(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.0]]))  # 1 / 5
    0.2
    """
    powers = Powers(p, row_weights)
    return quotients(matrix, [approximation], [powers])[powers] ** (1 / p)


def quotient(error: float, size: float) -> float:
    """Return error / size: 0 for an exact copy, also of a matrix of zeros, and 1 for any other copy of zeros."""
    return error / size if size else float(error != 0)


def row_powers(rows: Tensor, p: float = 2.0) -> Tensor:
    """Return sum_j |x_ij|^p for each row: added in the precision of `rows`, which is four times as fast, as float64."""
    powers = rows.square() if p == 2 else rows.abs() if p == 1 else rows.abs().pow(p)  # pow(1) takes 40 times as long
    return powers.sum(dim=1).double()


def shrink(values: Tensor, threshold: float, p: float) -> Tensor:
    """Apply the proximal map of `threshold` |x|^p, p in [1, 2]: argmin_x threshold |x|^p + (x - v)^2 / 2.

    p = 1 is soft thresholding, p = 2 a scaling. In between, s = |x|^(p-1) solves
    s^q + threshold p s = |v| with q = 1 / (p - 1). The left side is convex and increasing in s, so that Newton's
    method, started above the root, descends to it.

    Examples
    --------
    >>> shrink(torch.tensor([-3.0, 0.5, 2.0]), threshold=1.0, p=1)
    tensor([-2.,  0.,  1.])
    """
    if p == 1:
        return torch.nn.functional.softshrink(values, threshold)
    if p == 2:
        return values / (1 + 2 * threshold)
    size, slope, q = values.abs(), threshold * p, 1 / (p - 1)
    s = torch.minimum(size / slope, size.pow(p - 1))
    for _ in range(4):
        power = s.pow(q - 1)
        s = s - (power * s + slope * s - size) / (q * power + slope)
    return values.sign() * s.clamp_min(0).pow(q)
