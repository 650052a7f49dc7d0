"""Sparse codes in one orthonormal basis: projective clustering with a subspace for every row."""

import math

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
IGNORED_BITS = 13  # of the mantissa, in the histogram of magnitudes: buckets are 1 / 1024 wide


def sparse(matrix: Tensor, budget: Budget, settings: Settings) -> SparseCoded:
    """Code every row by its largest coordinates and the signs of the others, in a basis learned to suit.

    Minimises the squared error over orthonormal bases B and codes of C = A B^T. A coordinate is stored as a number
    where that pays: for a given B those above one threshold, which is what fills the budget. Of the others one bit
    is kept, their sign, with one magnitude for the whole row: three quarters of the energy below the threshold for
    1/32 of the bytes of float32. Where the bits cost more than they save, these coordinates are zero. B starts at
    the principal axes and descends on the manifold of orthonormal bases by stochastic gradient steps with momentum,
    the angle annealed to zero.

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
        If offsets, block masks and one basis vector do not fit.

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
    _, axes = principal_axes(matrix, matrix.dtype)
    basis, signed = _starting_basis(sample, axes.T.to(matrix.dtype).contiguous(), budget, n)
    return encode(matrix, _learn(sample, basis, budget, n, signed, generator), budget, signed)


def fit_like(target: Tensor, previous: SparseCoded, budget: Budget) -> SparseCoded:
    """Code the rows anew in the same basis."""
    return encode(target, previous.basis, budget, previous.signs is not None)


def project_like(target: Tensor, previous: SparseCoded, budget: Budget) -> None:
    """Overwrite the rows by what codes in the same basis can say of them."""
    basis, signed = previous.basis, previous.signs is not None
    threshold = _threshold_for(target, basis, budget, signed)
    for rows in target.split(CHUNK):
        codes = rows @ basis.T
        rows.copy_(_decoded(codes, _magnitudes(codes) >= threshold, signed) @ basis)


def _decoded(codes: Tensor, kept: Tensor, signed: bool) -> Tensor:
    """Return what is left of codes (rows, width) of which only those in `kept` are stored as numbers."""
    if not signed:
        return torch.where(kept, codes, 0)
    return torch.where(kept, codes, torch.copysign(_mean_magnitude(codes, kept).unsqueeze(1), codes))


def _mean_magnitude(codes: Tensor, kept: Tensor) -> Tensor:
    """Return the mean |c| of each row's coordinates that are not in `kept`, shape (rows,)."""
    others = (~kept).sum(dim=1).clamp_min(1)
    return codes.abs().masked_fill_(kept, 0).sum(dim=1) / others


def _threshold_for(matrix: Tensor, basis: Tensor, budget: Budget, signed: bool) -> int:
    """Return the bucket of magnitude down to which the coordinates of all rows fit the budget."""
    histogram = matrix.new_zeros(1 << (31 - IGNORED_BITS), dtype=torch.int64)
    for rows in matrix.split(CHUNK):
        histogram += _histogram(rows @ basis.T, budget.item)
    return _threshold(histogram, _left(budget, matrix.shape[0], basis.shape, signed))


def encode(matrix: Tensor, basis: Tensor, budget: Budget, signed: bool) -> SparseCoded:
    """Keep the largest coordinates of all rows in `basis` that fit the budget.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    basis : Tensor of shape (width, d)
        Orthonormal rows.
    budget : Budget
    signed : bool
        Keep the signs of the other coordinates.
    """
    n, width = matrix.shape[0], basis.shape[0]
    threshold = _threshold_for(matrix, basis, budget, signed)
    values, filled = matrix.new_empty(min(budget.n_bytes // budget.item, n * width)), 0
    masks, blocks, counts, signs, magnitudes = [], [], [], [], []
    for rows in matrix.split(CHUNK):
        codes = rows @ basis.T  # (rows, width)
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
        signs=torch.cat(signs) if signed else None,
        magnitudes=torch.cat(magnitudes) if signed else None,
    )


def _left(budget: Budget, n: int, basis: tuple[int, ...], signed: bool) -> int:
    """Bytes left for numbers and their masks: basis, block bits, offsets and signs are paid for anyway."""
    width, d = basis
    fixed = width * d * budget.item + n * -(-width // (BLOCK * 8)) + 2 * n * index_dtype(n * width).itemsize
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


def _starting_basis(sample: Tensor, axes: Tensor, budget: Budget, n: int) -> tuple[Tensor, bool]:
    """Cut the principal axes to the width that leaves the least error at this budget, and say if signs pay.

    A basis vector costs d numbers: a small matter for a tall matrix, all of the budget for a short one.
    """
    sample = sample[:BATCH]
    d, share, codes = axes.shape[1], len(sample) / n, sample @ axes.T
    if _left(budget, n, (1, d), False) <= 0:
        raise budget.too_small(budget.n_bytes - _left(budget, n, (1, d), False) + budget.item)
    energy = float(sample.square().sum(dtype=torch.float64)) or 1.0
    width, best = axes.shape[0], (math.inf, 1, False)
    while width >= 1:
        inside = codes[:, :width]
        outside = float(codes[:, width:].square().sum(dtype=torch.float64))
        for signed in (False, True):
            left = _left(budget, n, (width, d), signed)
            if left > 0:
                kept = _magnitudes(inside) >= _threshold(_histogram(inside, budget.item), left * share)
                lost = (inside - _decoded(inside, kept, signed)).square().sum(dtype=torch.float64)
                error = round((outside + float(lost)) / energy, 9)  # among equals the smallest, without signs
                best = min(best, (error, width, signed))
        width = width * 3 // 4
    return axes[: best[1]], best[2]


def _learn(sample: Tensor, basis: Tensor, budget: Budget, n: int, signed: bool, generator: torch.Generator) -> Tensor:
    """Turn the basis so that less is lost in the coordinates below the threshold."""
    width, d = basis.shape
    batch = min(BATCH, len(sample))
    left = _left(budget, n, (width, d), signed)
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
