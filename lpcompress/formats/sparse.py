"""Sparse codes: numbers for some coordinates of each row, and a few bits for each of the others."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.formats.base import Factorization
from lpcompress.formats.masks import all_used, damage, gather, n_blocks
from lpcompress.formats.module import FactoredMatrix, recomputed
from lpcompress.formats.packing import BLOCK, CHUNK, LEVELS_OF, index_dtype, unpack_bits, unpack_levels
from lpcompress.formats.sizes import Spec, one_of, positive_int, size


@dataclass(frozen=True)
class SparseCoded(Factorization):
    """Rows coded in one shared basis, each with numbers for a few coordinates of its own.

    The other coordinates of a row are zero, or are rounded to one of 2^bits levels: odd multiples of half the row's
    step.

    Without a basis, the coordinates are the columns of the matrix and the values its entries. A two-level bit mask
    marks the coordinates with a number (see `formats.masks`); bit j of byte b is coordinate 8 b + j, lowest bit first.

    Attributes
    ----------
    values : Tensor of shape (stored values,)
        Row by row, coordinates ascending.
    basis : Tensor of shape (width, d) or None
        Orthonormal rows, unless a whitened fit was un-whitened.
    blocks : uint8 Tensor of shape (n, ceil(width / 64))
    masks : uint8 Tensor of shape (used blocks,)
        Row by row, blocks ascending.
    offsets : integer Tensor of shape (n, 2)
        Positions of the row's first value and first mask: int32, or int64 if a store is longer than 2^31 - 1.
    columns : int
        d.
    bits : int
        Bits per coordinate without a number: 0, 1, 2, 4 or 8.
    levels : uint8 Tensor of shape (n, ceil(width bits / 8)) or None
        A level for every coordinate, lowest bits first; read only where there is no number. Level q means
        q + 1/2 - 2^(bits - 1) steps. None if bits = 0.
    steps : Tensor of shape (n,) or None
        Step of each row. None if bits = 0.

    Examples
    --------
    >>> import torch
    >>> from lpcompress import factorize
    >>> codes = factorize(torch.randn(256, 64), "sparse", ratio=0.9)
    >>> codes.shape, codes.n_bytes <= 0.1 * 256 * 64 * 4
    ((256, 64), True)
    """

    directions = "basis"
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
        """Number of coordinates."""
        return self.columns if self.basis is None else self.basis.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.offsets.shape[0], self.columns

    @property
    def ranks(self) -> list[int]:
        """Number of coordinates, as the only entry."""
        return [self.width]

    @property
    def rows(self) -> list[int]:
        """n, as the only entry."""
        return [self.offsets.shape[0]]

    def dense(self, chunk: int = CHUNK) -> Tensor:
        """Return the represented matrix, shape (n, d): codes are unpacked and multiplied `chunk` rows at a time."""
        out = self.values.new_empty(self.shape)
        for start in range(0, self.shape[0], chunk):
            support = self.support(start, start + chunk)
            first = int(self.offsets[start, 0])
            codes = self.small_codes(start, start + chunk).masked_scatter_(support, self.values[first:])
            out[start : start + chunk] = codes if self.basis is None else codes @ self.basis
        return out

    def scale_rows(self, factors: Tensor) -> "SparseCoded":
        """Return a copy with the values and the step of row i multiplied by `factors[i]`."""
        lengths = torch.diff(self.offsets[:, 0], append=self.offsets.new_tensor([self.values.shape[0]])).long()
        scaled, first = torch.empty_like(self.values), 0
        for rows, counts in zip(factors.split(CHUNK), lengths.split(CHUNK), strict=True):
            stop = first + int(counts.sum())
            scaled[first:stop] = self.values[first:stop] * torch.repeat_interleave(rows, counts)
            first = stop
        steps = None if self.steps is None else (self.steps * factors).to(self.steps.dtype)
        return replace(self, values=scaled, steps=steps)

    def small_codes(self, start: int, stop: int) -> Tensor:
        """Decode the levels of rows `start` to `stop`, shape (rows, width); zeros without levels."""
        if self.levels is None or self.steps is None:
            return self.values.new_zeros(len(self.offsets[start:stop]), self.width)
        multiples = unpack_levels(self.levels[start:stop], self.bits, self.values.dtype)[:, : self.width]
        return multiples * self.steps[start:stop].unsqueeze(1)

    def support(self, start: int, stop: int) -> Tensor:
        """Return the mask of coordinates with a number in rows `start` to `stop`: bool of shape (rows, width)."""
        used = unpack_bits(self.blocks[start:stop])[:, : n_blocks(self.width)]  # (rows, blocks)
        first = int(self.offsets[start, 1])
        masks = self.masks.new_zeros(used.shape).masked_scatter_(used, self.masks[first:])
        return unpack_bits(masks)[:, : self.width]


UNPACKED = 8192  # rows unpacked at a time in a forward pass


class SparseCodedMatrix(FactoredMatrix):
    """Stored as a few numbers per row, in a shared `basis` or in none; packed codes are unpacked for each call.

    Row i is `codes_i @ basis`, or `codes_i` without a basis. `codes` (values,) holds the largest of all codes, row by
    row; `blocks` (n, bytes), `masks` (used blocks,) and `offsets` (n, 2) locate them. The other codes are zero, or are
    given by `levels` (n, bytes) and `steps` (n,) if `bits` is not 0. This saves size, not time.
    """

    prefix = "SparseCoded"
    holds = SparseCoded
    fields: ClassVar = {
        "values": "codes",
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
        """Register values, masks and index, and basis and levels if there are any, all zeros."""
        device = where.get("device")
        self.codes = nn.Parameter(torch.zeros(values, **where))
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
        """Return the width of the basis (None: no basis), the lengths of the two stores, and the bits per level."""
        width = None if spec.get("width", 0) is None else positive_int(spec, "width")
        stores = {key: size(spec.get(key), key) for key in ("values", "masks")}
        return {"width": width, **stores, "bits": one_of(spec, "bits", (0, *LEVELS_OF))}

    @classmethod
    def sizes_of(cls, factorization: SparseCoded) -> Spec:
        """Return the sizes of `factorization`, as `sizes_in` reads them."""
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
        """`basis`, shape (width, d); None if there is none."""
        return self.basis

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the rows `ids` (ids,) of the matrix, shape (ids, d)."""
        codes = self.codes_of(ids)
        return codes if self.basis is None else codes @ self.basis

    def codes_of(self, ids: Tensor) -> Tensor:
        """Return the codes of rows `ids` (ids,), shape (ids, width); no intermediate shape depends on the data."""
        width = self.width
        offsets = self.offsets.index_select(0, ids)  # (ids, 2)
        blocks = unpack_bits(self.blocks.index_select(0, ids))[:, : n_blocks(width)]  # (ids, blocks)
        masks = gather(self.masks, offsets[:, 1:], blocks)
        bits = unpack_bits(masks)[:, :width]  # (ids, width)
        stored = gather(self.codes, offsets[:, :1], bits)
        if self.levels is None or self.steps is None:
            return stored
        steps = self.steps.index_select(0, ids).unsqueeze(1)
        multiples = unpack_levels(self.levels.index_select(0, ids), self.bits, steps.dtype)[:, :width]
        return stored + multiples * steps * ~bits  # products: `where` takes seven times as long

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map coordinates (..., width) to (..., n), `UNPACKED` rows of the codes at a time, and add `bias` (n,)."""

        def part(ids: Tensor, coordinates: Tensor) -> Tensor:
            return functional.linear(coordinates, self.codes_of(ids), None if bias is None else bias[ids])

        # recomputed, so that the unpacked codes are not kept for the backward pass
        parts = [recomputed(part, ids, coordinates) for ids in self.row_ids().split(UNPACKED)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def check(self, name: str) -> None:
        """Raise CheckpointError if a number is not finite, or blocks, masks, offsets and values are inconsistent."""
        super().check(name)
        for what in damage(self.blocks, self.masks, self.offsets, self.codes.numel(), self.width):
            self.require(False, name, what)

    def shrink(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        values, masks = self.offsets[rows].tolist()
        self.codes.data = self.codes.data[:values].clone()
        self.masks = self.masks[:masks].clone()
        self.blocks = self.blocks[:rows].clone()
        self.offsets = self.offsets[:rows].to(index_dtype(max(values, masks)), copy=True)
        if self.levels is not None and self.steps is not None:
            self.levels = self.levels[:rows].clone()
            self.steps.data = self.steps.data[:rows].clone()

    def grow(self, extra: int, mean_row: Tensor) -> None:
        """Append `extra` rows with a number for every coordinate: the least-squares codes of the mean row."""
        width, (values, masks) = self.width, (self.codes.numel(), self.masks.numel())
        codes = mean_row
        if self.basis is not None:
            codes = torch.linalg.lstsq(self.basis.float().T, mean_row.unsqueeze(-1)).solution.squeeze(-1)
        codes = codes.to(self.codes.dtype)  # (width,)
        blocks_added, masks_added = all_used(extra, width, self.masks.device)
        steps = torch.arange(extra, device=self.offsets.device).unsqueeze(-1)  # (extra, 1)
        start, step = self.offsets.new_tensor([[values, masks], [width, n_blocks(width)]]).long()
        offsets = torch.cat([self.offsets.long(), start + steps * step])
        self.codes.data = torch.cat([self.codes.data, codes.repeat(extra)])
        self.masks = torch.cat([self.masks, masks_added])
        self.blocks = torch.cat([self.blocks, blocks_added])
        self.offsets = offsets.to(index_dtype(max(self.codes.numel(), self.masks.numel())))
        if self.levels is not None and self.steps is not None:  # never read, because every coordinate has a number
            self.levels = functional.pad(self.levels, (0, 0, 0, extra))
            self.steps.data = functional.pad(self.steps.data, (0, extra))
