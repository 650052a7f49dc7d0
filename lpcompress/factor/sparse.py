"""Codes in one orthonormal basis, or in none: numbers for the largest, signs for the others."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lpcompress.factor.factorization import BLOCK, SparseCoded, index_dtype, pack_bits
from lpcompress.factor.linalg import CHUNK, orthonormal_rows, principal_axes, spectral_norm
from lpcompress.factor.problem import Budget, Settings

SAMPLE = 16384  # rows that the basis is learned from
BATCH = 2048
MOST_STEPS = 384
LEARNING_WORK = 36 * 768**3  # steps times d^3: fewer where one is dear, so that wide matrices take seconds
ANGLE = 0.1  # that a basis vector turns in a step, in radians, at first
LONGEST = 0.5  # step, as the tangent of the largest angle
MOMENTUM = 0.8
COSTLY = 0.25  # share of the budget
HOPELESS = 0.5
"""A basis is not learned if it is `COSTLY` and entries alone leave less than this share of its error at the start."""
IGNORED_BITS = 13  # of the mantissa, in the histogram of magnitudes: buckets are 1 / 1024 wide


def sparse(matrix: Tensor, budget: Budget, settings: Settings) -> SparseCoded:
    """Code every row by its largest coordinates and the signs of the others, in a basis learned to suit.

    Minimises the squared error over orthonormal bases B and codes of C = A B^T. A coordinate is stored as a number
    where that pays: for a given B those above one threshold, which is what fills the budget. Of the others one bit
    is kept, their sign, with one magnitude for the whole row: three quarters of the energy below the threshold for
    1/32 of the bytes of float32. Where the bits cost more than they save, these coordinates are zero. B starts at
    the principal axes and descends on the manifold of orthonormal bases by stochastic gradient steps with momentum,
    the angle annealed to zero.

    A basis is stored too: next to nothing beside a tall matrix, most of the budget of a square one. Where the
    entries of the matrix itself can be told better in as many bytes, they take the place of the codes.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Values, two-level mask, offsets, signs, magnitudes and basis are all counted.
    settings : Settings
        `seed` draws the batches. `clusters` is not used: there is one basis.

    Raises
    ------
    LpCompressError
        If offsets and block masks do not fit.

    Notes
    -----
    Ours. The nearest relatives are orthogonal dictionary learning by alternating thresholding and Procrustes
    rotation (Lesage et al., "Learning unions of orthonormal bases with thresholded singular value
    decomposition", ICASSP 2005), which needs many more passes over the rows for the same error, and, for the
    signs, binary weights with a mean magnitude (Rastegari et al., "XNOR-Net", ECCV 2016, section 3.1).
    """
    n = matrix.shape[0]
    generator = torch.Generator().manual_seed(settings.seed)
    sample = matrix[torch.randperm(n, generator=generator)[:SAMPLE].to(matrix.device)]
    entries = _in_entries(sample[:BATCH], budget, n)
    _, axes = principal_axes(matrix, matrix.dtype)
    start = _in_axes(sample[:BATCH], axes.T.to(matrix.dtype).contiguous(), budget, n)
    best = min(entries, start, key=lambda each: each.error)
    if best.error == math.inf:
        raise budget.too_small(budget.n_bytes - _left(budget, matrix.shape, None, False) + budget.item)
    if start.basis is not None:
        costly = start.basis.numel() * budget.item > COSTLY * budget.n_bytes
        if not (costly and entries.error < HOPELESS * start.error):
            basis = _learn(sample, start.basis, budget, n, start.signed, generator)
            learned = _Choice(_lost(sample[:BATCH], basis, budget, n, start.signed), basis, start.signed)
            best = min(learned, entries, key=lambda each: each.error)
    return encode(matrix, best.basis, budget, best.signed)


@dataclass(frozen=True)
class _Choice:
    error: float  # share of the energy of a sample that is lost
    basis: Tensor | None
    signed: bool


def fit_like(target: Tensor, previous: SparseCoded, budget: Budget) -> SparseCoded:
    """Code the rows anew in the same basis."""
    return encode(target, previous.basis, budget, previous.signs is not None)


def project_like(target: Tensor, previous: SparseCoded, budget: Budget) -> None:
    """Overwrite the rows by what codes in the same basis can say of them."""
    basis, signed = previous.basis, previous.signs is not None
    threshold = _threshold_for(target, basis, budget, signed)
    for rows in target.split(CHUNK):
        codes = _codes(rows, basis)
        decoded = _decoded(codes, _magnitudes(codes) >= threshold, signed)
        rows.copy_(decoded if basis is None else decoded @ basis)


def _codes(rows: Tensor, basis: Tensor | None) -> Tensor:
    return rows if basis is None else rows @ basis.T


def _decoded(codes: Tensor, kept: Tensor, signed: bool) -> Tensor:
    """Return what is left of codes (rows, width) of which only those in `kept` are stored as numbers."""
    if not signed:
        return torch.where(kept, codes, 0)
    return torch.where(kept, codes, torch.copysign(_mean_magnitude(codes, kept).unsqueeze(1), codes))


def _mean_magnitude(codes: Tensor, kept: Tensor) -> Tensor:
    """Return the mean |c| of each row's coordinates that are not in `kept`, shape (rows,)."""
    others = (~kept).sum(dim=1).clamp_min(1)
    return codes.abs().masked_fill_(kept, 0).sum(dim=1) / others


def _threshold_for(matrix: Tensor, basis: Tensor | None, budget: Budget, signed: bool) -> int:
    """Return the bucket of magnitude down to which the coordinates of all rows fit the budget."""
    histogram = matrix.new_zeros(1 << (31 - IGNORED_BITS), dtype=torch.int64)
    for rows in matrix.split(CHUNK):
        histogram += _histogram(_codes(rows, basis), budget.item)
    return _threshold(histogram, _left(budget, matrix.shape, basis, signed))


def encode(matrix: Tensor, basis: Tensor | None, budget: Budget, signed: bool) -> SparseCoded:
    """Keep the largest coordinates of all rows in `basis` that fit the budget.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    basis : Tensor of shape (width, d) or None
        Orthonormal rows; None: the columns themselves are the coordinates.
    budget : Budget
    signed : bool
        Keep the signs of the other coordinates.
    """
    n, d = matrix.shape
    width = d if basis is None else basis.shape[0]
    threshold = _threshold_for(matrix, basis, budget, signed)
    values, filled = matrix.new_empty(min(budget.n_bytes // budget.item, n * width)), 0
    masks, blocks, counts, signs, magnitudes = [], [], [], [], []
    for rows in matrix.split(CHUNK):
        codes = _codes(rows, basis)  # (rows, width)
        kept = _magnitudes(codes) >= threshold
        packed = pack_bits(kept)  # (rows, blocks)
        numbers = codes[kept]
        values[filled : filled + len(numbers)] = numbers
        filled += len(numbers)
        masks.append(packed[packed > 0])
        blocks.append(pack_bits(packed > 0))
        counts.append(torch.stack([kept.sum(dim=1), (packed > 0).sum(dim=1)], dim=1))
        if signed:
            signs.append(pack_bits(codes.signbit()))
            magnitudes.append(_mean_magnitude(codes, kept))
    lengths = torch.cat(counts)
    return SparseCoded(
        values=values.resize_(filled),
        basis=basis,
        blocks=torch.cat(blocks),
        masks=torch.cat(masks),
        offsets=(lengths.cumsum(0) - lengths).to(index_dtype(n * width)),
        columns=d,
        signs=torch.cat(signs) if signed else None,
        magnitudes=torch.cat(magnitudes) if signed else None,
    )


def _left(budget: Budget, shape: tuple[int, ...], basis: Tensor | None, signed: bool) -> int:
    """Bytes left for numbers and their masks: basis, block bits, offsets and signs are paid for anyway."""
    n, d = shape
    width, numbers = (d, 0) if basis is None else (basis.shape[0], basis.numel())
    fixed = numbers * budget.item + n * -(-width // (BLOCK * 8)) + 2 * n * index_dtype(n * width).itemsize
    return budget.n_bytes - fixed - signed * n * (-(-width // 8) + budget.item)


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


def _in_entries(sample: Tensor, budget: Budget, n: int) -> _Choice:
    """Say what is lost without a basis, and if signs pay."""
    return min(
        (_Choice(_lost(sample, None, budget, n, s), None, s) for s in (False, True)), key=lambda each: each.error
    )


def _in_axes(sample: Tensor, axes: Tensor, budget: Budget, n: int) -> _Choice:
    """Cut the principal axes to the width that leaves the least error at this budget, and say if signs pay.

    A basis vector costs d numbers: a small matter for a tall matrix, all of the budget for a short one. Among
    equals the narrowest is taken, without signs.
    """
    width, best = axes.shape[0], _Choice(math.inf, None, False)
    while width >= 1:
        choices = [_Choice(_lost(sample, axes[:width], budget, n, s), axes[:width], s) for s in (False, True)]
        best = min(*choices, best, key=lambda each: each.error)
        width = width * 3 // 4
    return best


def _lost(sample: Tensor, basis: Tensor | None, budget: Budget, n: int, signed: bool) -> float:
    """Return the share of the energy of a sample of n rows that codes of this size lose; inf if there is no room."""
    left = _left(budget, (n, sample.shape[1]), basis, signed)
    if left <= 0:
        return math.inf
    codes = _codes(sample, basis)
    kept = _magnitudes(codes) >= _threshold(_histogram(codes, budget.item), left * len(sample) / n)
    decoded = _decoded(codes, kept, signed)
    lost = (sample - (decoded if basis is None else decoded @ basis)).square().sum(dtype=torch.float64)
    energy = sample.square().sum(dtype=torch.float64).clamp_min(torch.finfo(sample.dtype).tiny)
    return round(float(lost / energy), 9)


def _learn(sample: Tensor, basis: Tensor, budget: Budget, n: int, signed: bool, generator: torch.Generator) -> Tensor:
    """Turn the basis so that less is lost in the coordinates below the threshold."""
    width, d = basis.shape
    batch = min(BATCH, len(sample))
    left = _left(budget, (n, d), basis, signed)
    steps = min(MOST_STEPS, LEARNING_WORK // d**3)
    velocity, threshold = torch.zeros_like(basis), 0
    order = torch.randperm(len(sample), generator=generator).to(sample.device)
    for step in range(steps):
        start = step * batch % (len(sample) - batch + 1)
        rows = sample[order[start : start + batch]]
        codes = rows @ basis.T
        if step % 8 == 0:
            threshold = _threshold(_histogram(codes, budget.item), left * batch / n)
        decoded = _decoded(codes, _magnitudes(codes) >= threshold, signed)
        ascent = decoded.T @ rows  # (width, d): gradient of minus the lost energy
        inner = ascent @ basis.T
        noise = torch.finfo(ascent.dtype).eps * math.sqrt(batch) * float(ascent.norm())
        ascent -= 0.5 * (inner + inner.T) @ basis  # its part along the manifold
        length = float(ascent.norm())
        if length <= noise:  # nothing is lost that turning could save
            break
        angle = ANGLE * 0.5 * (1 + math.cos(math.pi * step / steps))
        velocity = MOMENTUM * velocity + (1 - MOMENTUM) * angle * math.sqrt(width) / length * ascent
        # Newton-Schulz wants singular values below sqrt(3): a step of one coherent turn is cut short.
        cut = min(1.0, LONGEST / max(spectral_norm(velocity), LONGEST))
        basis = orthonormal_rows(basis + cut * velocity, rounds=2)
    return orthonormal_rows(basis, rounds=4)
