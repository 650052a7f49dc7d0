"""Codes as a codec would write them: integers with one step for everything, entropy coded."""

from math import exp, log

from scipy.optimize import brentq
from torch import Tensor

from lpcompress.factor.coded_encoder import Encoder, Estimate
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.coded import Coded

CLOSE = 0.998  # share of the budget that is enough
ENCODINGS = 6  # at most, to meet a budget
TOLERANCE = 5e-4  # of the logarithm of delta


def coded(
    matrix: Tensor,
    budget: Budget,
    settings: Settings,
    whitener: Whitener | None = None,
    row_weights: Tensor | None = None,
) -> Coded:
    """Round all coordinates in one step, scaled by the roots of the row weights, and code the integers by entropy.

    Coordinates are taken in the principal axes of the weighted rows, or are the entries themselves, whichever costs
    less. Codes are rounded to what is cheapest in squared error plus bits. The step that fills the budget is found by
    bisection.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Everything stored is counted: tables, basis, scales and states of the coder.
    settings : Settings
        `seed` draws the rows on which prices are learned. `clusters` is not used.
    whitener : Whitener, optional
        Minimise the error of products with inputs of this second moment: entries are rounded with error feedback.
    row_weights : Tensor of shape (n,), optional

    Raises
    ------
    BudgetError
        If not even zeros fit.

    References
    ----------
    Gish and Pierce, "Asymptotically efficient quantizing", IEEE Transactions on Information Theory 14 (1968), for
    uniform steps with entropy coding. Sullivan and Wiegand, "Rate-distortion optimization for video compression", IEEE
    Signal Processing Magazine 15 (1998), for the rounding.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.randn(400, 32, generator=torch.Generator().manual_seed(0))
    >>> codes = coded(matrix, Budget(n_bytes=8000, item=4), Settings())
    >>> 7900 < codes.n_bytes <= 8000
    True
    """
    encoder = Encoder(matrix, row_weights, whitener, settings.seed, budget.item)
    target, like, best, sizes = (1 + CLOSE) / 2 * budget.n_bytes, None, None, []
    for _ in range(ENCODINGS):
        delta = delta_for(encoder, target, like)
        like = encoder.estimate(delta, like)
        found = encoder.encode(delta, like)
        size = found.n_bytes
        sizes.append(size)
        if size <= budget.n_bytes and (best is None or size > best.n_bytes):
            best = found
        if CLOSE * budget.n_bytes <= size <= budget.n_bytes or delta in encoder.range:
            break
        target = (1 + CLOSE) / 2 * budget.n_bytes * like.n_bytes / size
    if best is None:
        raise budget.too_small(min(sizes))
    return best


def delta_for(encoder: Encoder, n_bytes: float, like: Estimate | None = None) -> float:
    """Return the delta at which `n_bytes` are estimated, or the nearest end of the range.

    Parameters
    ----------
    encoder : Encoder
    n_bytes : float
    like : Estimate, optional
        As for `Encoder.estimate`.
    """
    low, high = encoder.range

    def excess(exponent: float) -> float:
        return log(encoder.estimate(exp(exponent), like).n_bytes / max(n_bytes, 1))

    if excess(log(low)) <= 0:
        return low
    if excess(log(high)) >= 0:
        return high
    return exp(brentq(excess, log(low), log(high), xtol=TOLERANCE))
