"""Codes in one orthonormal basis, or in none: numbers for the largest, a few bits for the others."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lpcompress.factor.factorization import BLOCK, SparseCoded, index_dtype, pack_bits, pack_levels
from lpcompress.factor.linalg import CHUNK, principal_axes
from lpcompress.factor.problem import Budget, Settings

BITS = (0, 1, 2, 4, 8)  # that a coordinate without a number may have: whole levels to a byte
STEP_ROUNDS = 2
SAMPLE = 2048  # rows on which basis and bits are chosen
CURVE_SAMPLE = 512  # rows on which losses at many sizes are estimated
TALL = 8  # times as many rows as columns: a basis takes less than an eighth of the bytes
TOO_NARROW = 2.0  # times the least loss: narrower bases are not tried any more
IGNORED_BITS = 13  # of the mantissa, in the histogram of magnitudes: buckets are 1 / 1024 wide


def sparse(matrix: Tensor, budget: Budget, settings: Settings) -> SparseCoded:
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
    sample = _sample(matrix, SAMPLE, settings.seed)
    _, axes = principal_axes(matrix, matrix.dtype)
    best = min(_in_axes(sample, axes.T.to(matrix.dtype).contiguous(), budget, n), _choice(sample, None, budget, n))
    if best.lost == math.inf:
        raise budget.too_small(budget.n_bytes - _left(budget, matrix.shape, None, 0) + budget.item)
    return encode(matrix, best.basis, budget, best.bits)


def loss_at(matrix: Tensor, budgets: list[Budget], seed: int, seen: Callable[[Tensor], Tensor]) -> list[float]:
    """Return the share of the energy that is lost at each budget, estimated on a sample of rows; inf if none fits.

    Only the full width of the principal axes is tried, and only where a basis costs little.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budgets : list of Budget
    seed : int
        Draws the sample.
    seen : callable
        Turns rows (m, d) into what their energy is that of.
    """
    n, d = matrix.shape
    sample = _sample(matrix, CURVE_SAMPLE, seed)
    bases: list[Tensor | None] = [None]
    if n >= TALL * d:
        _, axes = principal_axes(matrix, matrix.dtype)
        bases.append(axes.T.to(matrix.dtype).contiguous())
    choices = [min(_choice(sample, basis, budget, n) for basis in bases) for budget in budgets]
    return [
        _lost(sample, choice.basis, budget, n, choice.bits, seen)
        for choice, budget in zip(choices, budgets, strict=True)
    ]


def _sample(matrix: Tensor, rows: int, seed: int) -> Tensor:
    """Draw rows of `matrix`."""
    generator = torch.Generator().manual_seed(seed)
    return matrix[torch.randperm(matrix.shape[0], generator=generator)[:rows].to(matrix.device)]


@dataclass(frozen=True)
class _Choice:
    lost: float  # share of the energy of a sample
    basis: Tensor | None
    bits: int

    def __lt__(self, other: "_Choice") -> bool:
        return self.lost < other.lost


def fit_like(target: Tensor, previous: SparseCoded, budget: Budget) -> SparseCoded:
    """Code the rows anew in the same basis."""
    return encode(target, previous.basis, budget, previous.bits)


def project_like(target: Tensor, previous: SparseCoded, budget: Budget) -> None:
    """Overwrite the rows by what codes in the same basis can say of them."""
    basis, bits = previous.basis, previous.bits
    threshold = _threshold_for(target, basis, budget, bits)
    for rows in target.split(CHUNK):
        codes = _codes(rows, basis)
        decoded = _decoded(codes, _magnitudes(codes) >= threshold, bits)
        rows.copy_(decoded if basis is None else decoded @ basis)


def _codes(rows: Tensor, basis: Tensor | None) -> Tensor:
    return rows if basis is None else rows @ basis.T


def _decoded(codes: Tensor, kept: Tensor, bits: int) -> Tensor:
    """Return what is left of codes (rows, width) of which only those in `kept` are stored as numbers."""
    if not bits:
        return torch.where(kept, codes, 0)
    levels, steps = _levels(codes, kept, bits)
    return torch.where(kept, codes, levels.mul_(steps.unsqueeze(1)))


def _levels(codes: Tensor, kept: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round the coordinates that are not in `kept` to levels; return these, (rows, width), and the rows' steps (rows,).

    Levels are odd multiples of one half. From the step that reaches the largest coordinate on, level and step are
    fitted to each other in turn.
    """
    small, half = codes.masked_fill(kept, 0), 2 ** (bits - 1)
    least = torch.finfo(codes.dtype).tiny
    steps = small.abs().amax(dim=1) / half
    for _ in range(STEP_ROUNDS if bits > 1 else 1):
        levels = (small / steps.clamp_min(least).unsqueeze(1)).floor_().clamp_(-half, half - 1).add_(0.5)
        inside = levels.masked_fill(kept, 0)
        steps = (small * inside).sum(dim=1) / inside.square().sum(dim=1).clamp_min(least)
    return levels, steps


def _threshold_for(matrix: Tensor, basis: Tensor | None, budget: Budget, bits: int) -> int:
    """Return the bucket of magnitude down to which the coordinates of all rows fit the budget."""
    histogram = matrix.new_zeros(1 << (31 - IGNORED_BITS), dtype=torch.int64)
    for rows in matrix.split(CHUNK):
        histogram += _histogram(_codes(rows, basis), budget.item)
    return _threshold(histogram, _left(budget, matrix.shape, basis, bits))


def encode(matrix: Tensor, basis: Tensor | None, budget: Budget, bits: int) -> SparseCoded:
    """Keep the largest coordinates of all rows in `basis` that fit the budget.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    basis : Tensor of shape (width, d) or None
        Orthonormal rows; None: the columns themselves are the coordinates.
    budget : Budget
    bits : int
        Of a coordinate without a number.
    """
    n, d = matrix.shape
    width = d if basis is None else basis.shape[0]
    threshold = _threshold_for(matrix, basis, budget, bits)
    most = _left(budget, matrix.shape, basis, bits) // budget.item
    values, filled = matrix.new_empty(min(most, n * width)), 0
    masks, blocks, counts = [], [], []
    levels = torch.empty(n, -(-width * bits // 8), dtype=torch.uint8, device=matrix.device)
    steps = matrix.new_empty(n)
    for start in range(0, n, CHUNK):
        rows = matrix[start : start + CHUNK]
        codes = _codes(rows, basis)  # (rows, width)
        kept = _magnitudes(codes) >= threshold
        packed = pack_bits(kept)  # (rows, blocks)
        numbers = codes[kept]
        values[filled : filled + len(numbers)] = numbers
        filled += len(numbers)
        masks.append(packed[packed > 0])
        blocks.append(pack_bits(packed > 0))
        counts.append(torch.stack([kept.sum(dim=1), (packed > 0).sum(dim=1)], dim=1))
        if bits:
            multiples, steps[start : start + CHUNK] = _levels(codes, kept, bits)
            levels[start : start + CHUNK] = pack_levels(multiples, bits)
    lengths = torch.cat(counts)
    return SparseCoded(
        values=values.resize_(filled),
        basis=basis,
        blocks=torch.cat(blocks),
        masks=torch.cat(masks),
        offsets=(lengths.cumsum(0) - lengths).to(index_dtype(n * width)),
        columns=d,
        bits=bits,
        levels=levels if bits else None,
        steps=steps if bits else None,
    )


def _left(budget: Budget, shape: tuple[int, ...], basis: Tensor | None, bits: int) -> int:
    """Bytes left for numbers and their masks: basis, block bits, offsets and levels are paid for anyway."""
    n, d = shape
    width, numbers = (d, 0) if basis is None else (basis.shape[0], basis.numel())
    fixed = numbers * budget.item + n * -(-width // (BLOCK * 8)) + 2 * n * index_dtype(n * width).itemsize
    return budget.n_bytes - fixed - (n * (-(-width * bits // 8) + budget.item) if bits else 0)


def _magnitudes(codes: Tensor) -> Tensor:
    """Return the bucket of each |c|: the float's own bits without sign and last digits, so the order stays."""
    return codes.abs().float().view(torch.int32) >> IGNORED_BITS


def _histogram(codes: Tensor, item: int) -> Tensor:
    """Return the bytes that each bucket of magnitude adds when it is kept too, shape (buckets,).

    A number takes `item` bytes, and the largest of its block of eight one more for the block's mask.
    """
    buckets = _magnitudes(codes)
    blocks = torch.nn.functional.pad(buckets, (0, -codes.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK)).amax(dim=2)
    size = 1 << (31 - IGNORED_BITS)
    numbers, masks = (torch.bincount(each.flatten(), minlength=size) for each in (buckets, blocks))
    return numbers * item + masks


def _threshold(histogram: Tensor, n_bytes: float) -> int:
    """Return the lowest bucket down to which everything fits; never 0, so that zeros are not stored."""
    needed = histogram.flip(0).cumsum(0)
    return max(len(histogram) - int((needed <= n_bytes).sum()), 1)


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


def _lost(
    sample: Tensor,
    basis: Tensor | None,
    budget: Budget,
    n: int,
    bits: int,
    seen: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> float:
    """Return the share of the energy of a sample of n rows that codes of this size lose; inf if there is no room."""
    left = _left(budget, (n, sample.shape[1]), basis, bits)
    if left <= 0:
        return math.inf
    codes = _codes(sample, basis)
    kept = _magnitudes(codes) >= _threshold(_histogram(codes, budget.item), left * len(sample) / n)
    decoded = _decoded(codes, kept, bits)
    lost = seen(sample - (decoded if basis is None else decoded @ basis)).square().sum(dtype=torch.float64)
    energy = seen(sample).square().sum(dtype=torch.float64).clamp_min(torch.finfo(sample.dtype).tiny)
    return round(float(lost / energy), 9)
