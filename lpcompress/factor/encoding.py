"""Encoding of a matrix in a given basis, or in none: the largest coordinates as numbers, the others as levels."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lpcompress.factor.compensation import Compensation
from lpcompress.factor.levels import fit_levels, nearest_levels
from lpcompress.factor.problem import Budget
from lpcompress.factor.robust import project, refit
from lpcompress.formats.packing import BLOCK, CHUNK, index_dtype, pack_bits, pack_levels
from lpcompress.formats.sparse import SparseCoded

IGNORED_BITS = 13  # of the mantissa, in the histogram of magnitudes: relative width of a bucket 1 / 1024


def encode(
    matrix: Tensor, basis: Tensor | None, budget: Budget, bits: int, compensation: Compensation | None = None
) -> SparseCoded:
    """Encode a matrix, with numbers for as many of its largest coordinates as fit the budget.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    basis : Tensor of shape (width, d) or None
        Orthonormal rows; None: the coordinates are the columns of the matrix.
    budget : Budget
    bits : int
        Bits per coordinate without a number.
    compensation : Compensation, optional
        Error feedback between the coordinates; only without a basis.
    """
    n, d = matrix.shape
    width = d if basis is None else basis.shape[0]
    threshold = _threshold_for(matrix, basis, budget, bits)
    most = bytes_left(budget, matrix.shape, basis, bits) // budget.item
    values, filled = matrix.new_empty(min(most, n * width)), 0
    masks, blocks, counts = [], [], []
    levels = torch.empty(n, -(-width * bits // 8), dtype=torch.uint8, device=matrix.device)
    steps = matrix.new_empty(n)
    for start in range(0, n, CHUNK):
        rows = matrix[start : start + CHUNK]
        codes = _codes(rows, basis)  # (rows, width)
        kept = _magnitudes(codes) >= threshold
        packed = pack_bits(kept)  # (rows, blocks)
        codes, multiples, its_steps = _coded(codes, kept, bits, compensation)
        numbers = codes[kept]
        values[filled : filled + len(numbers)] = numbers
        filled += len(numbers)
        masks.append(packed[packed > 0])
        blocks.append(pack_bits(packed > 0))
        counts.append(torch.stack([kept.sum(dim=1), (packed > 0).sum(dim=1)], dim=1))
        if bits:
            steps[start : start + CHUNK] = its_steps
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


@refit.register
def _refit(like: SparseCoded, target: Tensor, budget: Budget) -> SparseCoded:
    """Encode the rows in the same basis."""
    return encode(target, like.basis, budget, like.bits)


@project.register
def _project(like: SparseCoded, target: Tensor, budget: Budget) -> None:
    """Overwrite the rows with their decoded codes in the same basis."""
    basis, bits = like.basis, like.bits
    threshold = _threshold_for(target, basis, budget, bits)
    for rows in target.split(CHUNK):
        codes = _codes(rows, basis)
        decoded = _decoded(codes, _magnitudes(codes) >= threshold, bits)
        rows.copy_(decoded if basis is None else decoded @ basis)


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample of the rows of a matrix in one basis, made once for all budgets and numbers of bits.

    Attributes
    ----------
    rows : Tensor of shape (m, d)
    basis : Tensor of shape (width, d) or None
    n : int
        Number of rows of the matrix.
    codes : Tensor of shape (m, width)
    buckets : int32 Tensor of shape (m, width)
        Bucket of magnitude of each code.
    needed : float32 Tensor of shape (buckets,)
        Bytes that numbers take from the largest bucket down to each.
    """

    rows: Tensor
    basis: Tensor | None
    n: int
    codes: Tensor
    buckets: Tensor
    needed: Tensor

    @classmethod
    def of(cls, rows: Tensor, basis: Tensor | None, n: int, item: int) -> Self:
        """Return the sample `rows` of n rows, whose numbers take `item` bytes each, in `basis`."""
        codes = _codes(rows, basis)
        # float32, as in a comparison of integers with the fraction of a budget
        return cls(rows, basis, n, codes, _magnitudes(codes), _needed(_histogram(codes, item)).float())

    def rounded(self, budget: Budget, bits: int, compensation: Compensation | None = None) -> Tensor | None:
        """Return the rows as encoded and decoded, (m, d); None if the codes do not fit a budget for all n rows."""
        left = bytes_left(budget, (self.n, self.rows.shape[1]), self.basis, bits)
        if left <= 0:
            return None
        kept = self.buckets >= _threshold(self.needed, left * len(self.rows) / self.n)
        decoded = _decoded(self.codes, kept, bits, compensation)
        return decoded if self.basis is None else decoded @ self.basis


def _codes(rows: Tensor, basis: Tensor | None) -> Tensor:
    return rows if basis is None else rows @ basis.T


def _decoded(codes: Tensor, kept: Tensor, bits: int, compensation: Compensation | None = None) -> Tensor:
    """Return codes (rows, width) as decoded: numbers for those in `kept`, levels for the others."""
    codes, levels, steps = _coded(codes, kept, bits, compensation)
    return torch.where(kept, codes, levels.mul_(steps.unsqueeze(1)))


def _coded(codes: Tensor, kept: Tensor, bits: int, compensation: Compensation | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, to be stored where `kept`, and their levels, both (rows, width), and steps (rows,)."""
    levels, steps = fit_levels(codes, kept, bits)
    if compensation is None:
        return codes, levels, steps
    codes = compensation(codes, kept, steps, bits)
    return codes, nearest_levels(codes, steps.unsqueeze(1), bits), steps


def _threshold_for(matrix: Tensor, basis: Tensor | None, budget: Budget, bits: int) -> int:
    """Return the lowest bucket of magnitude down to which the coordinates of all rows fit the budget."""
    histogram = matrix.new_zeros(1 << (31 - IGNORED_BITS), dtype=torch.int64)
    for rows in matrix.split(CHUNK):
        histogram += _histogram(_codes(rows, basis), budget.item)
    return _threshold(_needed(histogram), bytes_left(budget, matrix.shape, basis, bits))


def bytes_left(budget: Budget, shape: tuple[int, ...], basis: Tensor | None, bits: int) -> int:
    """Return the bytes left for numbers and their masks, after basis, block bits, offsets, levels and steps."""
    n, d = shape
    width, numbers = (d, 0) if basis is None else (basis.shape[0], basis.numel())
    fixed = numbers * budget.item + n * -(-width // (BLOCK * 8)) + 2 * n * index_dtype(n * width).itemsize
    return budget.n_bytes - fixed - (n * (-(-width * bits // 8) + budget.item) if bits else 0)


def _magnitudes(codes: Tensor) -> Tensor:
    """Return the bucket of each |c|: the bits of the float without sign and last digits, which keeps the order."""
    return codes.abs().float().view(torch.int32) >> IGNORED_BITS


def _histogram(codes: Tensor, item: int) -> Tensor:
    """Return the bytes that each bucket of magnitude adds if it is kept too, shape (buckets,).

    A number takes `item` bytes; the largest of a block of eight takes one more, for the block's mask.
    """
    buckets = _magnitudes(codes)
    blocks = torch.nn.functional.pad(buckets, (0, -codes.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK)).amax(dim=2)
    size = 1 << (31 - IGNORED_BITS)
    numbers, masks = (torch.bincount(each.flatten(), minlength=size) for each in (buckets, blocks))
    return numbers * item + masks


def _needed(histogram: Tensor) -> Tensor:
    """Return the bytes that numbers take from the largest bucket down to each, shape (buckets,), ascending."""
    return histogram.flip(0).cumsum(0)


def _threshold(needed: Tensor, n_bytes: float) -> int:
    """Return the lowest bucket down to which all fit in `n_bytes`; never 0, so that zeros are not stored."""
    fitting = torch.searchsorted(needed, needed.new_tensor(n_bytes), right=True)
    return max(len(needed) - int(fitting), 1)
