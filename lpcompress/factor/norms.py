"""Entrywise l_p errors and the proximal map of |x|^p."""

import torch
from torch import Tensor

from lpcompress.factor.scaling import excess_of, times_power
from lpcompress.formats.packing import CHUNK


def power_sum(rows: Tensor, p: float) -> float:
    """Return the sum of |x_ij|^p over all entries, accumulated in float64."""
    powers = rows.abs() if p == 1 else rows.square() if p == 2 else rows.abs().pow(p)
    return float(powers.sum(dtype=torch.float64))


def power_sum_of_difference(matrix: Tensor, approximation: Tensor, p: float) -> float:
    """Return the sum of |a_ij - b_ij|^p, a few rows at a time."""
    chunks = zip(matrix.split(CHUNK), approximation.split(CHUNK), strict=True)
    return sum(power_sum(rows - fitted, p) for rows, fitted in chunks)


@torch.no_grad()
def relative_error(matrix: Tensor, approximation: Tensor, p: float = 2.0, row_weights: Tensor | None = None) -> float:
    """Return (sum w_i |a_ij - b_ij|^p / sum w_i |a_ij|^p)^(1/p).

    Parameters
    ----------
    matrix, approximation : Tensor of shape (n, d)
        Any floating dtype; differences are taken in float32 or better, sums in float64.
    p : float
    row_weights : Tensor of shape (n,), optional
        Weight of each row's powers; all ones by default.

    Returns
    -------
    float
        As for `quotient`; not finite if the approximation is not.

    Examples
    --------
    >>> relative_error(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.0]]))  # 1 / 5
    0.2
    """
    work, excess = torch.promote_types(matrix.dtype, torch.float32), excess_of(matrix)
    if row_weights is not None:
        row_weights = row_weights.to(matrix.device, torch.float64)
        row_weights = times_power(row_weights, -excess_of(row_weights))
    error = size = 0.0
    for start in range(0, matrix.shape[0], CHUNK):
        rows, fitted = (times_power(each[start : start + CHUNK].to(work), -excess) for each in (matrix, approximation))
        weights = 1.0 if row_weights is None else row_weights[start : start + CHUNK]
        error += float((row_powers(rows - fitted, p) * weights).sum())
        size += float((row_powers(rows, p) * weights).sum())
    return quotient(error, size) ** (1 / p)


def quotient(error: float, size: float) -> float:
    """Return error / size: 0 for an exact copy, also of a matrix of zeros, and 1 for any other copy of zeros."""
    return error / size if size else float(error != 0)


def row_powers(rows: Tensor, p: float = 2.0) -> Tensor:
    """Return sum_j |x_ij|^p for each row, float64."""
    powers = rows.square() if p == 2 else rows.abs().pow(p)
    return powers.sum(dim=1, dtype=torch.float64)


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
