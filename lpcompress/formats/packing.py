"""Packing of bits and levels into bytes, and the dtype of indices."""

from functools import cache

import torch
from torch import Tensor

BLOCK = 8  # coordinates per mask byte of `SparseCoded`
CHUNK = 1024  # rows converted or multiplied at a time, so that no second copy of a matrix is made
BYTES = torch.arange(256).unsqueeze(1)
BITS_OF = BYTES >> torch.arange(8) & 1 == 1  # bits of each byte value, lowest first: bool (256, 8)
LEVELS_OF = {  # bits per level -> levels of each byte value: (256, 8 / bits)
    bits: (BYTES >> torch.arange(0, 8, bits)) % 2**bits + 0.5 - 2 ** (bits - 1) for bits in (1, 2, 4, 8)
}


@cache
def _bits_on(device: torch.device) -> Tensor:
    """Return `BITS_OF` on a device, copied there once."""
    with torch.inference_mode(False):  # the cached tensor must be usable in autograd
        return BITS_OF.to(device)


@cache
def _levels_on(bits: int, device: torch.device) -> Tensor:
    """Return the table of levels on a device, copied there once."""
    with torch.inference_mode(False):
        return LEVELS_OF[bits].to(device)


def unpack_bits(packed: Tensor) -> Tensor:
    """Unpack bytes of shape (rows, bytes) into bool of shape (rows, 8 * bytes), lowest bit first.

    Examples
    --------
    >>> unpack_bits(torch.tensor([[5]], dtype=torch.uint8)).int()
    tensor([[1, 0, 1, 0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    device = packed.device
    return _look_up(BITS_OF.to(device) if torch.compiler.is_compiling() else _bits_on(device), packed)


def unpack_levels(packed: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """Unpack bytes of shape (rows, bytes) into levels, odd multiples of 1/2, of shape (rows, bytes * 8 / bits).

    Examples
    --------
    >>> unpack_levels(torch.tensor([[0b11_10_01_00]], dtype=torch.uint8), 2, torch.float32)
    tensor([[-1.5000, -0.5000,  0.5000,  1.5000]])
    """
    device = packed.device
    table = LEVELS_OF[bits].to(device) if torch.compiler.is_compiling() else _levels_on(bits, device)
    return _look_up(table, packed).to(dtype)


def _look_up(table: Tensor, packed: Tensor) -> Tensor:
    """Return the rows of `table` (256, m) for all bytes, side by side; takes half as long as shifting."""
    found = table.index_select(0, packed.reshape(-1).int())
    return found.view(*packed.shape, table.shape[1]).flatten(-2)


def pack_bits(bits: Tensor) -> Tensor:
    """Pack bool of shape (rows, columns) into bytes of shape (rows, ceil(columns / 8)), lowest bit first."""
    padded = torch.nn.functional.pad(bits, (0, -bits.shape[-1] % 8)).unflatten(-1, (-1, 8))
    weights = (2 ** torch.arange(8, device=bits.device)).to(torch.uint8)
    return (padded.to(torch.uint8) * weights).sum(-1, dtype=torch.uint8)


def index_dtype(length: int) -> torch.dtype:
    """Return int32 if it can index a store of `length` entries, else int64."""
    return torch.int32 if length < 2**31 else torch.int64
