"""Sparse codes in one orthonormal basis, or in none: projective clustering with a subspace for every row."""

import math

import torch
from torch import Tensor

from lpcompress.errors import BudgetError
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
    """Code every row by its largest coordinates, in a basis that is learned to make few of them large.

    Minimises sum_ij min(c_ij^2, mu) over orthonormal bases B, C = A B^T: a stored number costs mu, one that is
    not stored its square. For a given B thresholding is optimal, and mu is what fills the budget. B starts
    at the principal axes and descends on the manifold of orthonormal bases by stochastic gradient steps
    with momentum, the angle annealed to zero.

    A basis is stored too: next to nothing beside a tall matrix, most of the budget of a square one. Where the
    largest entries of the matrix itself keep more of it in as many bytes, they are stored, without a basis.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Values, two-level mask, offsets and basis are all counted.
    settings : Settings
        `seed` draws the batches. `clusters` is not used: there is one basis.

    Raises
    ------
    LpCompressError
        If offsets and block masks do not fit.

    Notes
    -----
    Ours. The nearest relative is orthogonal dictionary learning by alternating thresholding and Procrustes
    rotation (Lesage et al., "Learning unions of orthonormal bases with thresholded singular value
    decomposition", ICASSP 2005), which needs many more passes over the rows for the same error.
    """
    n = matrix.shape[0]
    generator = torch.Generator().manual_seed(settings.seed)
    sample = matrix[torch.randperm(n, generator=generator)[:SAMPLE].to(matrix.device)]
    alone = _kept_entries(matrix, budget)
    _, axes = principal_axes(matrix, matrix.dtype)
    try:
        basis, kept = _starting_basis(sample, axes.T.to(matrix.dtype).contiguous(), budget, n)
    except BudgetError:
        if alone == 0:
            raise
        return encode(matrix, None, budget)
    if 1 - alone < HOPELESS * (1 - kept) and basis.numel() * budget.item > COSTLY * budget.n_bytes:
        return encode(matrix, None, budget)
    fitted = encode(matrix, _learn(sample, basis, budget, n, generator), budget)
    if _energy(fitted.values) >= alone * _energy(matrix):
        return fitted
    del fitted  # before more memory is needed
    return encode(matrix, None, budget)


def _kept_entries(matrix: Tensor, budget: Budget) -> float:
    """Return the share of the energy that is in the largest entries that fit the budget, without a basis."""
    threshold = _threshold_for(matrix, None, budget)
    kept = sum(_energy(rows[_magnitudes(rows) >= threshold]) for rows in matrix.split(CHUNK))
    return kept / max(_energy(matrix), torch.finfo(matrix.dtype).tiny)


def _energy(values: Tensor) -> float:
    """Return the sum of squares."""
    return sum(float(some.square().sum(dtype=torch.float64)) for some in values.reshape(-1).split(1 << 20))


def fit_like(target: Tensor, previous: SparseCoded) -> SparseCoded:
    """Code the rows anew in the same basis, in the same number of bytes."""
    return encode(target, previous.basis, _budget_of(previous))


def project_like(target: Tensor, previous: SparseCoded) -> None:
    """Overwrite the rows by what sparse codes in the same basis and as many bytes can say of them."""
    basis, budget = previous.basis, _budget_of(previous)
    threshold = _threshold_for(target, basis, budget)
    for rows in target.split(CHUNK):
        codes = _codes(rows, basis)
        codes = codes.masked_fill(_magnitudes(codes) < threshold, 0)
        rows.copy_(codes if basis is None else codes @ basis)


def _budget_of(fitted: SparseCoded) -> Budget:
    return Budget(fitted.n_bytes, fitted.values.element_size())


def _codes(rows: Tensor, basis: Tensor | None) -> Tensor:
    return rows if basis is None else rows @ basis.T


def _threshold_for(matrix: Tensor, basis: Tensor | None, budget: Budget) -> int:
    """Return the bucket of magnitude down to which the coordinates of all rows fit the budget."""
    n, d = matrix.shape
    histogram = matrix.new_zeros(1 << (31 - IGNORED_BITS), dtype=torch.int64)
    for rows in matrix.split(CHUNK):
        histogram += _histogram(_codes(rows, basis), budget.item)
    width, numbers = (d, 0) if basis is None else (basis.shape[0], basis.numel())
    return _threshold(histogram, budget.n_bytes - _fixed_bytes(n, width, numbers, budget.item))


def encode(matrix: Tensor, basis: Tensor | None, budget: Budget) -> SparseCoded:
    """Keep the largest coordinates of all rows in `basis` that fit the budget.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    basis : Tensor of shape (width, d) or None
        Orthonormal rows; None: the columns themselves are the coordinates.
    budget : Budget
    """
    n, d = matrix.shape
    width = d if basis is None else basis.shape[0]
    threshold = _threshold_for(matrix, basis, budget)
    values, filled = matrix.new_empty(min(budget.n_bytes // budget.item, n * width)), 0
    masks, blocks, counts = [], [], []
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
    lengths = torch.cat(counts)
    offsets = (lengths.cumsum(0) - lengths).to(index_dtype(n * width))
    return SparseCoded(values.resize_(filled), basis, torch.cat(blocks), torch.cat(masks), offsets, d)


def _fixed_bytes(n: int, width: int, numbers: int, item: int) -> int:
    """Bytes that do not depend on how many codes are kept: the basis' numbers, block bits, offsets."""
    return numbers * item + n * -(-width // (BLOCK * 8)) + 2 * n * index_dtype(n * width).itemsize


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


def _starting_basis(sample: Tensor, axes: Tensor, budget: Budget, n: int) -> tuple[Tensor, float]:
    """Cut the principal axes to the width that leaves the least error; return them and the share of energy they keep.

    A basis vector costs d numbers: a small matter for a tall matrix, all of the budget for a short one.
    """
    sample = sample[:BATCH]
    d, share, codes = axes.shape[1], len(sample) / n, sample @ axes.T
    smallest = _fixed_bytes(n, 1, d, budget.item)
    if budget.n_bytes <= smallest:
        raise budget.too_small(smallest + budget.item)
    energy = _energy(sample)
    width, best = axes.shape[0], (math.inf, 1)
    while width >= 1:
        left = budget.n_bytes - _fixed_bytes(n, width, width * d, budget.item)
        if left > 0:
            inside = codes[:, :width]
            kept = _magnitudes(inside) >= _threshold(_histogram(inside, budget.item), left * share)
            best = min(best, (energy - _energy(inside[kept]), width))
        width = width * 3 // 4
    return axes[: best[1]], 1 - best[0] / max(energy, torch.finfo(sample.dtype).tiny)


def _learn(sample: Tensor, basis: Tensor, budget: Budget, n: int, generator: torch.Generator) -> Tensor:
    """Turn the basis so that the coordinates below the threshold hold less energy."""
    width, d = basis.shape
    batch = min(BATCH, len(sample))
    left = budget.n_bytes - _fixed_bytes(n, width, width * d, budget.item)
    steps = min(MOST_STEPS, LEARNING_WORK // d**3)
    velocity, threshold = torch.zeros_like(basis), 0
    order = torch.randperm(len(sample), generator=generator).to(sample.device)
    for step in range(steps):
        start = step * batch % (len(sample) - batch + 1)
        rows = sample[order[start : start + batch]]
        codes = rows @ basis.T
        if step % 8 == 0:
            threshold = _threshold(_histogram(codes, budget.item), left * batch / n)
        kept = torch.where(_magnitudes(codes) >= threshold, codes, 0)
        ascent = kept.T @ rows  # (width, d): gradient of the kept energy
        inner = ascent @ basis.T
        ascent -= 0.5 * (inner + inner.T) @ basis  # its part along the manifold
        length = float(ascent.norm())
        if length == 0:
            break
        angle = ANGLE * 0.5 * (1 + math.cos(math.pi * step / steps))
        velocity = MOMENTUM * velocity + (1 - MOMENTUM) * angle * math.sqrt(width) / length * ascent
        # Newton-Schulz wants singular values below sqrt(3): a step of one coherent turn is cut short.
        cut = min(1.0, LONGEST / max(spectral_norm(velocity), LONGEST))
        basis = orthonormal_rows(basis + cut * velocity, rounds=2)
    return orthonormal_rows(basis, rounds=4)
