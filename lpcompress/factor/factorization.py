"""What a factorization is: the three containers that every method returns.

All three hold a matrix A of n rows and d columns as *codes times a basis*; they differ in which
coordinates a row may use: the same `rank` for all (`LowRank`), those of its cluster
(`Clustered`), or its own choice (`SparseCoded`). `n_bytes` counts everything that is stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from lpcompress.factor.linalg import CHUNK

BLOCK = 8  # coordinates per mask byte of `SparseCoded`
BYTES = torch.arange(256).unsqueeze(1)
BITS_OF = BYTES >> torch.arange(8) & 1 == 1  # every byte's, lowest first: bool (256, 8)
LEVELS_OF = {  # bits of a level -> every byte's levels: (256, 8 / bits)
    bits: (BYTES >> torch.arange(0, 8, bits)) % 2**bits + 0.5 - 2 ** (bits - 1) for bits in (1, 2, 4, 8)
}


@dataclass(frozen=True)
class Factorization:
    """Base of the containers: sizes and counts that follow from the fields alone."""

    kind: ClassVar[str]

    def tensors(self) -> dict[str, Tensor]:
        """Return every stored tensor by its field name."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}

    @property
    def n_parameters(self) -> int:
        """Stored floating-point numbers."""
        return sum(t.numel() for t in self.tensors().values() if t.is_floating_point())

    @property
    def n_bytes(self) -> int:
        """Stored bytes: numbers, indices, masks and offsets."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d) of the matrix that is represented."""
        raise NotImplementedError

    @property
    def ranks(self) -> list[int]:
        """Dimension of each subspace (of each shared basis, for sparse codes)."""
        raise NotImplementedError

    @property
    def rows(self) -> list[int]:
        """Number of rows in each subspace."""
        raise NotImplementedError

    def dense(self) -> Tensor:
        """Multiply out: the (n, d) matrix that is represented, in the dtype of the factors."""
        raise NotImplementedError

    def scale_rows(self, factors: Tensor) -> Self:
        """Return the factorization of the matrix whose row i is `factors[i]` times as long.

        Only the codes change: scaling rows leaves every subspace where it is.
        """
        raise NotImplementedError

    def to(self, dtype: torch.dtype) -> Self:
        """Return a copy with contiguous floating-point tensors of another dtype."""
        changed = {k: t.to(dtype).contiguous() for k, t in self.tensors().items() if t.is_floating_point()}
        return replace(self, **changed)


@dataclass(frozen=True)
class LowRank(Factorization):
    """A = left @ right: one subspace for all rows.

    Attributes
    ----------
    left : Tensor of shape (n, rank)
    right : Tensor of shape (rank, d)
    """

    kind: ClassVar[str] = "low_rank"
    left: Tensor
    right: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def ranks(self) -> list[int]:
        """The one rank."""
        return [self.right.shape[0]]

    @property
    def rows(self) -> list[int]:
        """All rows."""
        return [self.left.shape[0]]

    def dense(self) -> Tensor:
        """Return left @ right, shape (n, d)."""
        return self.left @ self.right

    def scale_rows(self, factors: Tensor) -> "LowRank":
        """Scale `left`."""
        return replace(self, left=self.left * factors.unsqueeze(1))


@dataclass(frozen=True)
class Clustered(Factorization):
    """Each row lives in the subspace of its cluster; ranks differ between clusters.

    Codes stand cluster by cluster in one flat store, so that nothing is padded; `offsets` says where a
    row's codes begin, and thereby its cluster: cluster c owns the c-th interval of the store. At most
    one cluster has rank 0, and it is the last.

    Attributes
    ----------
    codes : Tensor of shape (sum_c rows_c * rank_c,)
    bases : Tensor of shape (sum_c rank_c, d)
        The clusters' bases, one above the other.
    offsets : integer Tensor of shape (n,)
        int32, or int64 if the store is longer than 2^31 - 1.
    clusters : int64 Tensor of shape (clusters, 2)
        (rank, rows) of each cluster.
    """

    kind: ClassVar[str] = "clustered"
    codes: Tensor
    bases: Tensor
    offsets: Tensor
    clusters: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.offsets.shape[0], self.bases.shape[1]

    @property
    def ranks(self) -> list[int]:
        """Rank of each cluster."""
        return [int(rank) for rank in self.clusters[:, 0]]

    @property
    def rows(self) -> list[int]:
        """Number of rows of each cluster."""
        return [int(rows) for rows in self.clusters[:, 1]]

    @property
    def starts(self) -> Tensor:
        """Where each cluster's codes begin in the store, shape (clusters,)."""
        sizes = self.clusters.prod(dim=1)
        return sizes.cumsum(0) - sizes

    @property
    def labels(self) -> Tensor:
        """Cluster of each row, shape (n,)."""
        return torch.bucketize(self.offsets.to(self.starts.dtype), self.starts, right=True) - 1

    def dense(self) -> Tensor:
        """Multiply out cluster by cluster, shape (n, d)."""
        out = self.bases.new_zeros(self.shape)
        for rows, codes, basis in self.parts():
            for some, theirs in zip(rows.split(CHUNK), codes.split(CHUNK), strict=True):
                out[some] = theirs @ basis
        return out

    def parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield for each cluster its row numbers (rows,), codes (rows, rank) and basis (rank, d)."""
        order = torch.argsort(self.offsets, stable=True)  # rows in the order of their codes
        code_start = basis_start = row_start = 0
        for rank, rows in zip(self.ranks, self.rows, strict=True):
            codes = self.codes[code_start : code_start + rows * rank].view(rows, rank)
            yield order[row_start : row_start + rows], codes, self.bases[basis_start : basis_start + rank]
            code_start, basis_start, row_start = (
                code_start + rows * rank,
                basis_start + rank,
                row_start + rows,
            )

    def scale_rows(self, factors: Tensor) -> "Clustered":
        """Scale `codes`."""
        scaled = [(codes * factors[rows].unsqueeze(1)).flatten() for rows, codes, _ in self.parts()]
        return replace(self, codes=torch.cat(scaled))


@dataclass(frozen=True)
class SparseCoded(Factorization):
    """Each row has numbers for a few coordinates of its own choice in a shared basis, orthonormal as seen by the fit.

    Its other coordinates are zero, or have one of 2^bits levels, odd multiples of half the row's step.

    Without a basis the coordinates are the matrix' own columns, and the values its own entries. A two-level
    bit mask says which coordinates a row uses. They are cut into blocks of eight; `blocks` has one bit a
    block (does the row use any of it?), `masks` one byte for each block that is used (which of the eight?),
    `values` one number for each bit set there. Bit j of a byte is coordinate 8 b + j, lowest bit first.

    Attributes
    ----------
    values : Tensor of shape (stored values,)
        Row by row, coordinates ascending.
    basis : Tensor of shape (width, d) or None
    blocks : uint8 Tensor of shape (n, ceil(width / 64))
    masks : uint8 Tensor of shape (used blocks,)
        Row by row, blocks ascending.
    offsets : integer Tensor of shape (n, 2)
        Where the row's values and its masks begin: int32, or int64 if a store is longer than 2^31 - 1.
    columns : int
        d.
    bits : int
        Of the level of a coordinate without a number: 0, 1, 2, 4 or 8.
    levels : uint8 Tensor of shape (n, ceil(width bits / 8)) or None
        A level for every coordinate, lowest bits first; read where `values` has no number. Level q stands for
        q + 1/2 - 2^(bits - 1) steps.
    steps : Tensor of shape (n,) or None
    """

    kind: ClassVar[str] = "sparse"
    values: Tensor
    basis: Tensor | None
    blocks: Tensor
    masks: Tensor
    offsets: Tensor
    columns: int
    bits: int = 0
    levels: Tensor | None = None
    steps: Tensor | None = None

    @property
    def width(self) -> int:
        """Number of coordinates that rows choose from."""
        return self.columns if self.basis is None else self.basis.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.offsets.shape[0], self.columns

    @property
    def ranks(self) -> list[int]:
        """Number of coordinates that rows choose from."""
        return [self.width]

    @property
    def rows(self) -> list[int]:
        """All rows."""
        return [self.offsets.shape[0]]

    def dense(self, chunk: int = CHUNK) -> Tensor:
        """Scatter the values into their coordinates and multiply by the basis, `chunk` rows at a time."""
        out = self.values.new_empty(self.shape)
        for start in range(0, self.shape[0], chunk):
            support = self.support(start, start + chunk)
            first = int(self.offsets[start, 0])
            codes = self.small_codes(start, start + chunk).masked_scatter_(support, self.values[first:])
            out[start : start + chunk] = codes if self.basis is None else codes @ self.basis
        return out

    def scale_rows(self, factors: Tensor) -> "SparseCoded":
        """Scale `values`, a few rows at a time, and `steps`."""
        lengths = torch.diff(self.offsets[:, 0], append=self.offsets.new_tensor([self.values.shape[0]])).long()
        scaled, first = torch.empty_like(self.values), 0
        for rows, counts in zip(factors.split(CHUNK), lengths.split(CHUNK), strict=True):
            stop = first + int(counts.sum())
            scaled[first:stop] = self.values[first:stop] * torch.repeat_interleave(rows, counts)
            first = stop
        steps = None if self.steps is None else (self.steps * factors).to(self.steps.dtype)
        return replace(self, values=scaled, steps=steps)

    def small_codes(self, start: int, stop: int) -> Tensor:
        """Return the codes of rows `start` to `stop` as their levels have them, shape (rows, width)."""
        if self.levels is None or self.steps is None:
            return self.values.new_zeros(len(self.offsets[start:stop]), self.width)
        multiples = unpack_levels(self.levels[start:stop], self.bits, self.values.dtype)[:, : self.width]
        return multiples * self.steps[start:stop].unsqueeze(1)

    def support(self, start: int, stop: int) -> Tensor:
        """Which coordinates the rows `start` to `stop` use: bool of shape (rows, width)."""
        used = unpack_bits(self.blocks[start:stop])[:, : -(-self.width // BLOCK)]  # (rows, blocks)
        first = int(self.offsets[start, 1])
        masks = self.masks.new_zeros(used.shape).masked_scatter_(used, self.masks[first:])
        return unpack_bits(masks)[:, : self.width]


def unpack_bits(packed: Tensor) -> Tensor:
    """Turn bytes of shape (rows, bytes) into bool of shape (rows, 8 * bytes), lowest bit first."""
    return _look_up(BITS_OF, packed)


def unpack_levels(packed: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """Turn bytes of shape (rows, bytes) into levels, odd multiples of 1/2, of shape (rows, bytes * 8 / bits)."""
    return _look_up(LEVELS_OF[bits], packed).to(dtype)


def _look_up(table: Tensor, packed: Tensor) -> Tensor:
    """Return the rows of `table` (256, m) for all bytes, side by side: half the time of shifting."""
    found = table.to(packed.device).index_select(0, packed.reshape(-1).int())
    return found.view(*packed.shape, table.shape[1]).flatten(-2)


def pack_levels(levels: Tensor, bits: int) -> Tensor:
    """Turn levels of shape (rows, columns) into bytes of shape (rows, ceil(columns * bits / 8)), lowest bits first."""
    count = 8 // bits
    codes = (levels - 0.5 + 2 ** (bits - 1)).to(torch.uint8)
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % count)).unflatten(-1, (-1, count))
    weights = (2 ** (bits * torch.arange(count, device=codes.device))).to(torch.uint8)
    return (padded * weights).sum(-1, dtype=torch.uint8)


def pack_bits(bits: Tensor) -> Tensor:
    """Turn bool of shape (rows, columns) into bytes of shape (rows, ceil(columns / 8)), lowest bit first."""
    padded = torch.nn.functional.pad(bits, (0, -bits.shape[-1] % 8)).unflatten(-1, (-1, 8))
    weights = (2 ** torch.arange(8, device=bits.device)).to(torch.uint8)
    return (padded.to(torch.uint8) * weights).sum(-1, dtype=torch.uint8)


def index_dtype(length: int) -> torch.dtype:
    """Return the smallest integer dtype that can point into a store of `length` entries."""
    return torch.int32 if length < 2**31 else torch.int64
