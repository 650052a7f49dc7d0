"""Rows that choose their own coordinates: the container and the module that holds it."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.formats.base import Factorization
from lpcompress.formats.module import FactoredMatrix, recomputed
from lpcompress.formats.packing import BLOCK, CHUNK, LEVELS_OF, index_dtype, pack_bits, unpack_bits, unpack_levels
from lpcompress.formats.sizes import Spec, one_of, positive_int, size


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


UNPACKED = 8192  # rows that are unpacked at a time


class SparseCodedMatrix(FactoredMatrix):
    """Row i is `codes_i @ basis`, with a number for the largest of `codes_i` only; without a basis it is `codes_i`.

    `weight` (values,) holds these numbers, row by row. `blocks` (n, bytes) says which blocks of eight
    coordinates a row uses, `masks` (used blocks,) which of the eight, `offsets` (n, 2) where its values and masks
    begin. The row's other codes are zero; or, if `bits` is not 0, `levels` (n, bytes) and `steps` (n,) say what
    they are. Rows are unpacked when they are used.
    """

    holds = SparseCoded
    fields: ClassVar = {
        "values": "weight",
        "basis": "basis",
        "blocks": "blocks",
        "masks": "masks",
        "offsets": "offsets",
        "levels": "levels",
        "steps": "steps",
    }
    basis: Tensor | None
    blocks: Tensor
    masks: Tensor
    offsets: Tensor
    levels: Tensor | None
    steps: Tensor | None

    def allocate(
        self, rows: int, columns: int, *, width: int | None, values: int, masks: int, bits: int, **where: Any
    ) -> None:
        """Register values, masks, and basis and levels if there are any."""
        device = where.get("device")
        self.weight = nn.Parameter(torch.zeros(values, **where))
        basis = None if width is None else nn.Parameter(torch.zeros(width, columns, **where))
        self.register_parameter("basis", basis)
        self.width = columns if width is None else width
        blocks = torch.zeros(rows, -(-self.width // BLOCK**2), dtype=torch.uint8, device=device)
        self.register_buffer("blocks", blocks)
        self.register_buffer("masks", torch.zeros(masks, dtype=torch.uint8, device=device))
        dtype = index_dtype(max(values, masks))
        self.register_buffer("offsets", torch.zeros(rows, 2, dtype=dtype, device=device))
        self.bits = bits
        levels = torch.zeros(rows, -(-self.width * bits // 8), dtype=torch.uint8, device=device)
        self.register_buffer("levels", levels if bits else None)
        self.register_parameter("steps", nn.Parameter(torch.zeros(rows, **where)) if bits else None)

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return width of the basis (None: there is none), lengths of the two stores, and bits of a level."""
        width = None if spec.get("width", 0) is None else positive_int(spec, "width")
        stores = {key: size(spec.get(key), key) for key in ("values", "masks")}
        return {"width": width, **stores, "bits": one_of(spec, "bits", (0, *LEVELS_OF))}

    @classmethod
    def sizes_of(cls, factorization: SparseCoded) -> Spec:
        """Return width of the basis, lengths of the two stores, and bits of a level."""
        return {
            "width": None if factorization.basis is None else factorization.width,
            "values": factorization.values.numel(),
            "masks": factorization.masks.numel(),
            "bits": factorization.bits,
        }

    def factorization(self) -> SparseCoded:
        """Return this module's own tensors (not copies) as a factorization."""
        parts = {field: getattr(self, name) for field, name in self.fields.items()}
        return SparseCoded(**parts, columns=self.matrix_shape[1], bits=self.bits)

    @property
    def right(self) -> Tensor | None:
        """The basis, shape (width, d), if there is one."""
        return self.basis

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the factored rows, shape (ids, d), for flat `ids`."""
        codes = self.codes(ids)
        return codes if self.basis is None else codes @ self.basis

    def codes(self, ids: Tensor) -> Tensor:
        """Unpack the codes of rows, shape (ids, width); no shape depends on the data."""
        width = self.width
        offsets = self.offsets.index_select(0, ids)  # (ids, 2)
        blocks = unpack_bits(self.blocks.index_select(0, ids))[:, : -(-width // BLOCK)]  # (ids, blocks)
        masks = gather(self.masks, offsets[:, 1:], blocks)
        bits = unpack_bits(masks)[:, :width]  # (ids, width)
        stored = gather(self.weight, offsets[:, :1], bits)
        if self.levels is None or self.steps is None:
            return stored
        steps = self.steps.index_select(0, ids).unsqueeze(1)
        multiples = unpack_levels(self.levels.index_select(0, ids), self.bits, steps.dtype)[:, :width]
        return stored + multiples * steps * ~bits  # products: `where` takes seven times as long

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply by the transposed codes and add `bias` (n,): (..., width) to (..., n), `UNPACKED` rows at a time."""

        def part(ids: Tensor, coordinates: Tensor) -> Tensor:
            return functional.linear(coordinates, self.codes(ids), None if bias is None else bias[ids])

        parts = [
            recomputed(part, ids, coordinates) for ids in self.row_ids().split(UNPACKED)
        ]  # else all codes are kept
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def check(self, name: str) -> None:
        """Raise CheckpointError unless offsets, blocks, masks and values belong together."""
        super().check(name)
        width = self.width
        used = unpack_bits(self.blocks)  # (n, bits)
        self.require(
            not used[:, -(-width // BLOCK) :].any(), name, f"'blocks' must not point beyond {width} coordinates"
        )
        masks_of = used.sum(1)  # (n,)
        self.require(
            int(masks_of.sum()) == self.masks.numel() and bool((self.masks != 0).all()),
            name,
            f"'blocks' must mark {self.masks.numel()} blocks, each with a mask that is not empty",
        )
        first_masks = masks_of.cumsum(0) - masks_of
        self.require(torch.equal(self.offsets[:, 1].long(), first_masks), name, "mask offsets must agree with 'blocks'")
        counts = unpack_bits(self.masks.unsqueeze(-1)).sum(1)  # (used blocks,)
        self.require(int(counts.sum()) == self.weight.numel(), name, f"'masks' must mark {self.weight.numel()} values")
        ends = functional.pad(counts.cumsum(0), (1, 0))  # values before each mask, and their total
        self.require(
            torch.equal(self.offsets[:, 0].long(), ends[first_masks]), name, "value offsets must agree with 'masks'"
        )
        if width % BLOCK:
            last = used[:, width // BLOCK]  # rows that use the last, incomplete block: it is their last mask
            tails = self.masks[(first_masks + masks_of - 1)[last]]
            self.require(
                not (tails >> (width % BLOCK)).any(), name, f"'masks' must not point beyond {width} coordinates"
            )

    def shrink(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        values, masks = self.offsets[rows].tolist()
        self.weight.data = self.weight.data[:values].clone()
        self.masks = self.masks[:masks].clone()
        self.blocks = self.blocks[:rows].clone()
        self.offsets = self.offsets[:rows].to(index_dtype(max(values, masks)), copy=True)
        if self.levels is not None and self.steps is not None:
            self.levels = self.levels[:rows].clone()
            self.steps.data = self.steps.data[:rows].clone()

    def grow(self, extra: int, mean_row: Tensor) -> None:
        """Add `extra` rows that use all coordinates, with codes nearest to the mean row."""
        width, (values, masks) = self.width, (self.weight.numel(), self.masks.numel())
        codes = mean_row
        if self.basis is not None:
            codes = torch.linalg.lstsq(self.basis.float().T, mean_row.unsqueeze(-1)).solution.squeeze(-1)
        codes = codes.to(self.weight.dtype)  # (width,)
        full = pack_bits(torch.ones(1, width, dtype=torch.bool, device=self.masks.device))  # (1, masks)
        blocks = pack_bits(torch.ones_like(full, dtype=torch.bool))
        steps = torch.arange(extra, device=self.offsets.device).unsqueeze(-1)  # (extra, 1)
        start, step = self.offsets.new_tensor([[values, masks], [width, full.shape[1]]]).long()
        offsets = torch.cat([self.offsets.long(), start + steps * step])
        self.weight.data = torch.cat([self.weight.data, codes.repeat(extra)])
        self.masks = torch.cat([self.masks, full[0].repeat(extra)])
        self.blocks = torch.cat([self.blocks, blocks.expand(extra, -1)])
        self.offsets = offsets.to(index_dtype(max(self.weight.numel(), self.masks.numel())))
        if self.levels is not None and self.steps is not None:  # never read, for all coordinates have numbers
            self.levels = functional.pad(self.levels, (0, 0, 0, extra))
            self.steps.data = functional.pad(self.steps.data, (0, extra))


def gather(store: Tensor, first: Tensor, used: Tensor) -> Tensor:
    """Unpack rows of a store in which only used entries stand, one after the other.

    Parameters
    ----------
    store : Tensor of shape (entries,)
    first : integer Tensor of shape (rows, 1)
        Where the entries of a row begin.
    used : bool Tensor of shape (rows, columns)

    Returns
    -------
    Tensor of shape (rows, columns)
        Zero where nothing is used.
    """
    if not store.numel():
        return store.new_zeros(used.shape)
    spots = used.cumsum(1, dtype=first.dtype).add_(first - 1).clamp_(0, store.numel() - 1)
    return store.index_select(0, spots.view(-1)).view(spots.shape) * used  # thrice as fast as `where`
