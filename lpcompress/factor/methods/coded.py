"""Codes as a codec would write them: integers with one step for everything, entropy coded."""

from math import exp, log

from scipy.optimize import brentq
from torch import Tensor, float64, no_grad

from lpcompress.factor.coded_encoder import ESTIMATES, Encoder, Estimate
from lpcompress.factor.preparation import prepare
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.coded import Coded
from lpcompress.progress import stretch

MARGIN = 0.002  # of the budget, that encodings leave: estimates for large matrices are wrong by half as much, or less
ENCODINGS = 6  # at most, to meet a budget
AGAIN = 0.1  # share of the work left that an encoding leaves to the next: as a rule there is none
UNUSED = 0.005  # share of the budget that the finest step may leave unused
TOLERANCE = 1e-4  # of the logarithm of delta
GRID = [*range(-18, -4, 2), *range(-4, 5)]  # of step sizes, in octaves of the root mean square


def coded(
    matrix: Tensor,
    budget: Budget,
    settings: Settings,
    whitener: Whitener | None = None,
    row_weights: Tensor | None = None,
) -> Coded:
    """Round all coordinates in one step, rows scaled by their weights to the power 1 / p, and code them by entropy.

    Coordinates are taken in the principal axes of the weighted rows, or are the entries themselves, whichever costs
    less. Codes are rounded to what is cheapest in squared error plus bits. The step that fills the budget is found by
    bisection.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Everything stored is counted: tables, basis, scales and states of the coder.
    settings : Settings
        `p` sets the steps of the rows; the errors of a row are nearly Gaussian, so that within a row the least-squares
        rounding serves all norms. `seed` draws the rows on which prices are learned. `clusters` is not used.
    whitener : Whitener, optional
        Minimise the error of products with inputs of this second moment: entries are rounded with error feedback.
    row_weights : Tensor of shape (n,), optional
        Not used if the budget is more than the finest step takes with them.

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
    encoder = Encoder(matrix, row_weights, whitener, settings, budget.item)
    if row_weights is not None and encoder.estimate(encoder.range[0]).n_bytes < (1 - UNUSED) * budget.n_bytes:
        encoder = Encoder(matrix, None, whitener, settings, budget.item)  # bytes are left for rows of little weight
    margin, target, like, best, most = MARGIN, budget.n_bytes * (1 - MARGIN), None, None, 0
    sizes: list[int] = []
    finest, coarsest = encoder.range
    for _ in range(ENCODINGS):
        delta = delta_for(encoder, target, like)
        like = encoder.estimate(delta, like)
        left = (1 - ESTIMATES) * AGAIN ** len(sizes)
        found = encoder.encode(delta, like, stretch(settings.told, 1 - left, 1 - AGAIN * left))
        size = found.stream.numel() + found.n_parameters * budget.item
        sizes.append(size)
        if size <= budget.n_bytes and size > most:
            best, most = found, size
        full = size >= (1 - 2 * margin) * budget.n_bytes or delta == finest
        if (size <= budget.n_bytes and full) or delta == coarsest:
            break
        margin *= 2 if len(sizes) > 1 else 1  # the first miss is in the estimate, others are its noise
        target = budget.n_bytes * (1 - margin) * like.n_bytes / size
        found.forget()  # its integers would take a quarter of the matrix while others are made
        del found
    if best is None:
        raise budget.too_small(min(sizes))
    return best


def sizes_at(
    matrix: Tensor, whitener: Whitener | None, row_weights: Tensor | None, settings: Settings
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return a few step sizes, and estimates of bytes and of relative squared errors for them.

    The parameters are those of `at_delta`.
    """
    plain, scale = prepare(matrix)
    encoder, unit = Encoder(plain, row_weights, whitener, settings, matrix.element_size()), 2.0**scale.exponent
    typical = float(encoder.entries.squares.mean().sqrt()) or 1.0
    energy = float(encoder.entries.squares.sum(dtype=float64)) * len(matrix) or 1.0
    deltas = [typical * 2**octave for octave in GRID]
    found = [encoder.estimate(delta) for delta in deltas]
    return (
        tuple(delta * unit for delta in deltas),
        tuple(each.n_bytes for each in found),
        tuple(each.loss / energy for each in found),
    )


@no_grad()
def at_delta(
    matrix: Tensor, delta: float, whitener: Whitener | None, row_weights: Tensor | None, settings: Settings
) -> Coded:
    """Encode a matrix with the step `delta` for the rows of the largest weight.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    delta : float
        In units of the products with the inputs whose second moment has a diagonal of mean 1.
    whitener : Whitener or None
    row_weights : Tensor of shape (n,) or None
    settings : Settings

    Returns
    -------
    Coded
        In the dtype of `matrix`; the same arguments give the same bytes.
    """
    plain, scale = prepare(matrix)
    encoder = Encoder(plain, row_weights, whitener, settings, matrix.element_size())
    found = encoder.encode(delta / 2.0**scale.exponent, told=stretch(settings.told, ESTIMATES, 1))
    return scale.undo(found, matrix.dtype)  # type: ignore[return-value]


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
