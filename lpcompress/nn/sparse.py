"""A matrix whose rows choose their own coordinates, of a shared basis or of the matrix itself."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.factor.factorization import (
    BLOCK,
    LEVELS_OF,
    SparseCoded,
    index_dtype,
    pack_bits,
    unpack_bits,
    unpack_levels,
)
from lpcompress.nn.matrix import FactoredMatrix, recomputed
from lpcompress.nn.sizes import Spec, one_of, positive_int, size

CHUNK = 8192  # rows that are unpacked at a time


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
        """Multiply by the transposed codes and add `bias` (n,): (..., width) to (..., n), `CHUNK` rows at a time."""

        def part(ids: Tensor, coordinates: Tensor) -> Tensor:
            return functional.linear(coordinates, self.codes(ids), None if bias is None else bias[ids])

        parts = [recomputed(part, ids, coordinates) for ids in self.row_ids().split(CHUNK)]  # else all codes are kept
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
