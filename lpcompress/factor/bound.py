"""The least error that any code of a given size can have, for Gaussian rows: reverse water-filling."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.preparation import prepare

DEPTH = 80.0  # of the lowest water level below the largest variance, in natural logarithms


@torch.no_grad()
def least_errors(
    matrix: Tensor, sizes: Sequence[float], row_weights: Tensor | None = None, lengths_known: bool = True
) -> list[float]:
    """Return the least relative error at each size, for independent Gaussian rows of the matrix's spectrum and lengths.

    Row i is taken to be normal with the covariance of all rows times its own squared length over the mean, so that a
    number has the variance v_ij = r_i l_j. At a water level t the error of each number is min(t, v_ij), and its bits
    are log2(v_ij / t) / 2 where that is positive. Lengths and axes are taken to be known: nothing is charged for them,
    so that the bound says little of wide matrices. Rows that are not Gaussian may do better.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        With n much larger than d.
    sizes : sequence of float
        In bytes.
    row_weights : Tensor of shape (n,), optional
        The error is then weighted, as `error_weighted` is.
    lengths_known : bool, default=True
        Whether a code may use the rows' lengths. Without it all rows are taken to have the same: a code of real rows,
        whose lengths differ, may then do better.

    Returns
    -------
    list of float
        ||A - B||_F / ||A||_F, of rows multiplied by the roots of their weights.

    References
    ----------
    Cover and Thomas, Elements of Information Theory, 2nd edition, theorem 10.3.3.

    Examples
    --------
    >>> matrix = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    >>> [f"{error:.2f}" for error in least_errors(matrix, [4000.0, 8000.0])]  # 1 and 2 bits a number
    ['0.47', '0.23']
    >>> [f"{error:.2f}" for error in least_errors(matrix, [4000.0, 8000.0], lengths_known=False)]  # 2^-1 and 2^-2
    ['0.50', '0.25']
    """
    scaled, _ = prepare(matrix, row_weights)
    lengths = scaled.square().sum(1, dtype=torch.float64).cpu().numpy()
    if not lengths.any():
        return [0.0] * len(sizes)
    if not lengths_known:
        lengths[:] = lengths.mean()
    lengths = np.sort(lengths[lengths > 0] / lengths.sum())
    axes = principal_axes(scaled)[0].cpu().numpy()
    axes = axes[axes > axes[0] * 1e-14] / axes.sum()  # descending
    tails = np.append(axes[::-1].cumsum()[::-1], 0.0)  # energy of the axes from the k-th on
    logs = np.append(0.0, np.log2(axes).cumsum())

    def at(level: float) -> tuple[float, float]:
        """Return bits and squared error at the logarithm of a water level."""
        levels = np.exp(level) / lengths  # as each row sees it
        above = len(axes) - np.searchsorted(axes[::-1], levels, side="right")
        bits = 0.5 * (logs[above] - above * np.log2(levels)).sum()
        return float(bits), float((lengths * (above * levels + tails[above])).sum())

    highest = float(np.log(lengths[-1] * axes[0]))  # where no bits are left
    lowest = highest - DEPTH

    def error(bits: float) -> float:
        if at(lowest)[0] <= bits:
            return at(lowest)[1] ** 0.5
        level = brentq(lambda level: at(level)[0] - bits, lowest, highest) if bits > 0 else highest
        return at(level)[1] ** 0.5

    return [error(8 * size) for size in sizes]
