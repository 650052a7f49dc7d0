"""Bits and levels packed into bytes."""

import torch
from torch import Tensor

BLOCK = 8  # coordinates per mask byte of `SparseCoded`
BYTES = torch.arange(256).unsqueeze(1)
BITS_OF = BYTES >> torch.arange(8) & 1 == 1  # every byte's, lowest first: bool (256, 8)
LEVELS_OF = {  # bits of a level -> every byte's levels: (256, 8 / bits)
    bits: (BYTES >> torch.arange(0, 8, bits)) % 2**bits + 0.5 - 2 ** (bits - 1) for bits in (1, 2, 4, 8)
}


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


CHUNK = 1024  # rows that are converted or multiplied at a time, so that no second copy of a matrix is made
