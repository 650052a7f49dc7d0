"""Codes in one orthonormal basis, or in none: numbers for the largest, a few bits for the others."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lpcompress.factor.allocation import Curve
from lpcompress.factor.compensation import Compensation
from lpcompress.factor.encoding import bytes_left, encode, rounded_sample
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.norms import row_powers
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.sparse import SparseCoded

BITS = (0, 1, 2, 4, 8)  # that a coordinate without a number may have: whole levels to a byte
SAMPLE = 2048  # rows on which basis and bits are chosen
CURVE_SAMPLE = 512  # rows on which losses at many sizes are estimated
TALL = 8  # times as many rows as columns: a basis takes less than an eighth of the bytes
LITTLE = 0.01  # share of the energy: where entries lose less, a curve does not ask what axes would lose
TOO_NARROW = 2.0  # times the least loss: narrower bases are not tried any more
SHARES = (0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
"""Of the dense bytes. Levels of 1, 2, 4 and 8 bits take 3, 6, 12 and 25 % of float32's bytes: between, it is denser."""


def sparse(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None = None) -> SparseCoded:
    """Code every row by numbers for its largest coordinates and a few bits for each of the others.

    Coordinates are those in the principal axes, or the entries of the matrix itself: a basis is stored too, which is
    next to nothing beside a tall matrix and most of the budget of a square one. A coordinate is stored as a
    number where that pays: those above one threshold, which is what fills the budget. The others are stored as
    one of 2^bits levels, equally spaced around zero, with one step for the whole row; with a single bit these are
    the signs and a common magnitude, and take away three quarters of the energy below the threshold for 1/32 of
    the bytes of float32. With 0 bits they are zero. Basis, its width and `bits` are what leaves the least error.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Values, two-level mask, offsets, levels, steps and basis are all counted.
    settings : Settings
        `seed` draws the rows on which the choice is made. `clusters` is not used: there is one basis.
    whitener : Whitener, optional
        Errors are those of products with inputs of this second moment: principal axes are those of the whitened
        matrix, and are stored as they are before whitening; entries are compensated (see `Compensation`).

    Raises
    ------
    LpCompressError
        If offsets and block masks do not fit.

    Notes
    -----
    Ours. Levels with outliers in full precision are those of Dettmers et al., "LLM.int8()", NeurIPS 2022. Learning
    the basis (descent on the manifold of orthonormal bases) was tried and dropped: without levels it lowers the
    error on MiniLM's embedding by a tenth, with them by a fiftieth at most.
    """
    n = matrix.shape[0]
    seen = whitener(matrix) if whitener else matrix
    compensation = Compensation.of(whitener) if whitener else None
    best = min(
        _in_axes(_sample(seen, SAMPLE, settings.seed), _axes_of(seen), budget, n),
        _of_entries(_sample(matrix, SAMPLE, settings.seed), budget, n, compensation),
    )
    if best.lost == math.inf:
        raise budget.too_small(budget.n_bytes - bytes_left(budget, matrix.shape, None, 0) + budget.item)
    if best.basis is None:
        return encode(matrix, None, budget, best.bits, compensation)
    fitted = encode(seen, best.basis, budget, best.bits)
    return whitener.undo(fitted) if whitener else fitted


def sparse_curve(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None) -> Curve:
    """Return the loss of sparse codes at `SHARES` of the bytes, by thresholds on a sample of rows."""
    sizes = [int(share * budget.n_bytes) for share in SHARES]
    losses = loss_at(matrix, [Budget(size, budget.item) for size in sizes], settings.seed, whitener)
    return Curve.through((size, loss) for size, loss in zip(sizes, losses, strict=True) if loss <= 1)


def loss_at(matrix: Tensor, budgets: list[Budget], seed: int, whitener: Whitener | None = None) -> list[float]:
    """Return the share of the energy that is lost at each budget, estimated on a sample of rows; inf if none fits.

    Without a whitener, only the full width of the principal axes is tried, and only where a basis costs little.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budgets : list of Budget
    seed : int
        Draws the sample.
    whitener : Whitener, optional
        The energy is that of products with inputs of this second moment.
    """
    n, d = matrix.shape
    sample = _sample(matrix, CURVE_SAMPLE, seed)
    compensation = Compensation.of(whitener) if whitener else None
    losses = [_of_entries(sample, budget, n, compensation).lost for budget in budgets]
    if n < TALL * d and not whitener:
        return losses
    seen, choose, enough = (whitener(matrix), _in_axes, LITTLE) if whitener else (matrix, _choice, 0.0)
    axes, sample = _axes_of(seen), _sample(seen, CURVE_SAMPLE, seed)
    return [
        min(lost, choose(sample, axes, budget, n).lost) if lost > enough else lost
        for lost, budget in zip(losses, budgets, strict=True)
    ]


def _sample(matrix: Tensor, rows: int, seed: int) -> Tensor:
    """Draw rows of `matrix`."""
    generator = torch.Generator().manual_seed(seed)
    return matrix[torch.randperm(matrix.shape[0], generator=generator)[:rows].to(matrix.device)]


def _axes_of(matrix: Tensor) -> Tensor:
    """Return all principal axes of `matrix` as rows, most important first."""
    return principal_axes(matrix, matrix.dtype)[1].T.to(matrix.dtype).contiguous()


@dataclass(frozen=True)
class _Choice:
    lost: float  # share of the energy of a sample
    basis: Tensor | None
    bits: int

    def __lt__(self, other: "_Choice") -> bool:
        return self.lost < other.lost


def _in_axes(sample: Tensor, axes: Tensor, budget: Budget, n: int) -> _Choice:
    """Cut the principal axes to the width that loses least at this budget; among equals to the narrowest.

    A basis vector costs d numbers: a small matter for a tall matrix, all of the budget for a short one.
    """
    width, best = axes.shape[0], _Choice(math.inf, None, 0)
    while width >= 1:
        choice = _choice(sample, axes[:width], budget, n)
        if choice.lost > TOO_NARROW * best.lost:
            break
        best = min(choice, best)
        width = width * 3 // 4
    return best


def _choice(sample: Tensor, basis: Tensor | None, budget: Budget, n: int) -> _Choice:
    """Choose the bits that lose least; among equals the fewest."""
    return min(_Choice(_lost(sample, basis, budget, n, bits), basis, bits) for bits in BITS)


def _of_entries(sample: Tensor, budget: Budget, n: int, compensation: Compensation | None) -> _Choice:
    """Choose the bits of codes without a basis by what they lose as they are, and say what they lose compensated."""
    choice = _choice(sample, None, budget, n)
    if compensation is None or choice.lost == math.inf:
        return choice
    return replace(choice, lost=_lost(sample, None, budget, n, choice.bits, compensation))


def _lost(
    sample: Tensor, basis: Tensor | None, budget: Budget, n: int, bits: int, compensation: Compensation | None = None
) -> float:
    """Return the share of the energy of a sample of n rows that codes of this size lose; inf if there is no room."""
    rounded = rounded_sample(sample, basis, budget, n, bits, compensation)
    if rounded is None:
        return math.inf
    energies = compensation.energies if compensation else row_powers
    lost, energy = (float(energies(rows).sum()) for rows in (sample - rounded, sample))
    return round(lost / max(energy, torch.finfo(sample.dtype).tiny), 9)
