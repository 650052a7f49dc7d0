"""Sparse codes in one orthonormal basis, or in none: numbers for the largest, a few bits for the others."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lpcompress.factor.allocation import Curve
from lpcompress.factor.compensation import Compensation
from lpcompress.factor.encoding import Sample, bytes_left, encode
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.norms import row_powers
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.sparse import SparseCoded

BITS = (0, 1, 2, 4, 8)  # choices per coordinate without a number: a byte holds whole levels
SAMPLE = 2048  # rows on which basis and bits are chosen
CURVE_SAMPLE = 512  # rows on which losses at many sizes are estimated
TALL = 8  # rows per column from which a basis takes at most an eighth of the bytes
LITTLE = 0.01  # share of the energy: where entries lose less, a curve does not try principal axes
TOO_NARROW = 2.0  # times the least loss: beyond it, no narrower basis is tried
SHARES = (0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
"""Shares of the dense bytes at which a curve is computed, denser from 3 to 25 %: levels of 1, 2, 4 and 8 bits take 3,
6, 12 and 25 % of float32's bytes."""


def sparse(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None = None) -> SparseCoded:
    """Encode every row by numbers for its largest coordinates and a few bits for each of the others.

    Coordinates are taken in the principal axes, or are the entries of the matrix itself: a basis is stored too, which
    costs almost nothing beside a tall matrix and most of the budget of a square one. Coordinates above one threshold
    are stored as numbers; the threshold is the one that fills the budget. The others are rounded to one of 2^bits
    levels, equally spaced around zero, with one step per row. With a single bit these are the signs and a common
    magnitude, which removes three quarters of the energy below the threshold for 1/32 of the bytes of float32. With
    0 bits they are zero. The basis, its width and `bits` are chosen for the least error.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Values, two-level mask, offsets, levels, steps and basis are all counted.
    settings : Settings
        `seed` draws the rows on which basis and bits are chosen. `clusters` is not used: there is one basis.
    whitener : Whitener, optional
        Minimise the error of products with inputs of this second moment: principal axes are those of the whitened
        matrix, stored un-whitened; entries are rounded with error feedback (see `Compensation`).

    Raises
    ------
    LpCompressError
        If offsets and block masks do not fit.

    Notes
    -----
    Our own method. Levels with outliers in full precision are those of Dettmers et al., "LLM.int8()", NeurIPS 2022.
    Learning the basis (descent on the Stiefel manifold) was tried and dropped: it lowers the error on MiniLM's
    embedding by a tenth without levels, and by at most a fiftieth with them.

    Examples
    --------
    >>> codes = sparse(torch.eye(64), Budget(n_bytes=2048, item=4), Settings())
    >>> codes.values.numel(), codes.bits, codes.basis is None, bool(torch.equal(codes.dense(), torch.eye(64)))
    (64, 0, True, True)
    """
    seen = whitener(matrix) if whitener else matrix
    compensation = Compensation.of(whitener) if whitener else None
    best = min(
        _in_axes(_Axes(seen, SAMPLE, settings.seed, budget.item), budget),
        _of_entries(_entries(matrix, SAMPLE, settings.seed, budget.item), budget, compensation),
    )
    if best.lost == math.inf:
        raise budget.too_small(budget.n_bytes - bytes_left(budget, matrix.shape, None, 0) + budget.item)
    if best.basis is None:
        return encode(matrix, None, budget, best.bits, compensation)
    fitted = encode(seen, best.basis, budget, best.bits)
    return whitener.undo(fitted) if whitener else fitted


def sparse_curve(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None) -> Curve:
    """Return the loss of sparse codes at `SHARES` of the bytes, from thresholds on a sample of rows."""
    sizes = [int(share * budget.n_bytes) for share in SHARES]
    losses = loss_at(matrix, [Budget(size, budget.item) for size in sizes], settings.seed, whitener)
    return Curve.through((size, loss) for size, loss in zip(sizes, losses, strict=True) if loss <= 1)


def loss_at(matrix: Tensor, budgets: list[Budget], seed: int, whitener: Whitener | None = None) -> list[float]:
    """Return the share of the energy that is lost at each budget, estimated on a sample of rows; inf if nothing fits.

    Without a whitener, only the full width of the principal axes is tried, and only where a basis costs little.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budgets : list of Budget
    seed : int
        Draws the sample.
    whitener : Whitener, optional
        Measure the energy of products with inputs of this second moment.
    """
    n, d = matrix.shape
    item = budgets[0].item
    entries = _entries(matrix, CURVE_SAMPLE, seed, item)
    compensation = Compensation.of(whitener) if whitener else None
    losses = [_of_entries(entries, budget, compensation).lost for budget in budgets]
    if n < TALL * d and not whitener:
        return losses
    axes = _Axes(whitener(matrix) if whitener else matrix, CURVE_SAMPLE, seed, item)
    if whitener:
        pairs = zip(losses, budgets, strict=True)
        return [min(lost, _in_axes(axes, budget).lost) if lost > LITTLE else lost for lost, budget in pairs]
    in_axes = axes.sample(axes.width)
    return [min(lost, _choice(in_axes, budget).lost) for lost, budget in zip(losses, budgets, strict=True)]


def _drawn(matrix: Tensor, rows: int, seed: int) -> Tensor:
    """Return randomly drawn rows of `matrix`."""
    generator = torch.Generator().manual_seed(seed)
    return matrix[torch.randperm(matrix.shape[0], generator=generator)[:rows].to(matrix.device)]


def _entries(matrix: Tensor, rows: int, seed: int, item: int) -> Sample:
    """Return a sample of `rows` rows whose coordinates are the entries themselves."""
    return Sample.of(_drawn(matrix, rows, seed), None, matrix.shape[0], item)


class _Axes:
    """A sample of rows in the leading principal axes of the matrix, kept for every width that is tried.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    rows, seed : int
        How many rows are drawn, and the seed.
    item : int
        Bytes per number.
    """

    def __init__(self, matrix: Tensor, rows: int, seed: int, item: int) -> None:
        self._axes = principal_axes(matrix, matrix.dtype)[1].T.to(matrix.dtype).contiguous()  # descending eigenvalues
        self._rows, self._n, self._item = _drawn(matrix, rows, seed), matrix.shape[0], item
        self._samples: dict[int, Sample] = {}

    @property
    def width(self) -> int:
        """Number of axes."""
        return self._axes.shape[0]

    def sample(self, width: int) -> Sample:
        """Return the sample in the first `width` axes."""
        if width not in self._samples:
            self._samples[width] = Sample.of(self._rows, self._axes[:width], self._n, self._item)
        return self._samples[width]


@dataclass(frozen=True)
class _Choice:
    lost: float  # share of the energy of a sample
    basis: Tensor | None
    bits: int

    def __lt__(self, other: "_Choice") -> bool:
        return self.lost < other.lost


def _in_axes(axes: _Axes, budget: Budget) -> _Choice:
    """Truncate the principal axes to the width that loses least at this budget; among equals, the narrowest.

    A basis vector costs d numbers: little for a tall matrix, the whole budget for a short one.
    """
    width, best = axes.width, _Choice(math.inf, None, 0)
    while width >= 1:
        choice = _choice(axes.sample(width), budget)
        if choice.lost > TOO_NARROW * best.lost:
            break
        best = min(choice, best)
        width = width * 3 // 4
    return best


def _choice(sample: Sample, budget: Budget) -> _Choice:
    """Choose the bits that lose least; among equals, the fewest."""
    return min(_Choice(_lost(sample, budget, bits), sample.basis, bits) for bits in BITS)


def _of_entries(entries: Sample, budget: Budget, compensation: Compensation | None) -> _Choice:
    """Choose the bits of codes without a basis by their loss without compensation; return the loss with it."""
    choice = _choice(entries, budget)
    if compensation is None or choice.lost == math.inf:
        return choice
    return replace(choice, lost=_lost(entries, budget, choice.bits, compensation))


def _lost(sample: Sample, budget: Budget, bits: int, compensation: Compensation | None = None) -> float:
    """Return the share of the energy of a sample that codes of this size lose; inf if they do not fit."""
    rounded = sample.rounded(budget, bits, compensation)
    if rounded is None:
        return math.inf
    energies = compensation.energies if compensation else row_powers
    lost, energy = (float(energies(rows).sum()) for rows in (sample.rows - rounded, sample.rows))
    return round(lost / max(energy, torch.finfo(sample.rows.dtype).tiny), 9)
