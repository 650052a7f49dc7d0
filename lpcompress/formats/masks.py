"""Two-level bit masks of the coordinates for which each row of `SparseCoded` stores a number.

A row's coordinates are split into blocks of eight. `blocks` has one bit per block: whether the row has a number in it.
`masks` has one byte per used block: which of its eight coordinates have a number. Numbers and masks are each stored row
by row without gaps; `offsets` holds the positions at which those of each row begin.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from lpcompress.formats.packing import BLOCK, pack_bits, unpack_bits


def n_blocks(width: int) -> int:
    """Return the number of blocks of `width` coordinates."""
    return -(-width // BLOCK)


def gather(store: Tensor, first: Tensor, used: Tensor) -> Tensor:
    """Unpack rows of a store that holds only the used entries, one after the other.

    Parameters
    ----------
    store : Tensor of shape (entries,)
    first : integer Tensor of shape (rows, 1)
        Position of each row's first entry.
    used : bool Tensor of shape (rows, columns)

    Returns
    -------
    Tensor of shape (rows, columns)
        Zero at unused entries.

    Examples
    --------
    >>> used = torch.tensor([[True, False, True], [False, True, False]])
    >>> gather(torch.tensor([7.0, 8.0, 9.0]), torch.tensor([[0], [2]]), used)
    tensor([[7., 0., 8.],
            [0., 9., 0.]])
    """
    if not store.numel():
        return store.new_zeros(used.shape)
    spots = used.cumsum(1, dtype=first.dtype).add_(first - 1).clamp_(0, store.numel() - 1)
    return store.index_select(0, spots.view(-1)).view(spots.shape) * used  # three times as fast as `where`


def all_used(rows: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return blocks (rows, bytes) and masks (rows * n_blocks(width),) for rows that use every coordinate."""
    masks = pack_bits(torch.ones(1, width, dtype=torch.bool, device=device))
    blocks = pack_bits(torch.ones_like(masks, dtype=torch.bool))
    return blocks.expand(rows, -1), masks[0].repeat(rows)


def damage(blocks: Tensor, masks: Tensor, offsets: Tensor, values: int, width: int) -> Iterator[str]:
    """Yield the conditions that inconsistent blocks, masks and offsets violate.

    Parameters
    ----------
    blocks : uint8 Tensor of shape (n, bytes)
    masks : uint8 Tensor of shape (used blocks,)
    offsets : integer Tensor of shape (n, 2)
    values : int
        Length of the store of numbers.
    width : int
        Number of coordinates.

    Yields
    ------
    str
        A condition, as a sentence without the full stop. Each is meaningful only if those before it hold.
    """
    used = unpack_bits(blocks)  # (n, bits)
    if used[:, n_blocks(width) :].any():
        yield f"'blocks' must not point beyond {width} coordinates"
    masks_of = used.sum(1)  # (n,)
    if int(masks_of.sum()) != masks.numel() or not bool((masks != 0).all()):
        yield f"'blocks' must mark {masks.numel()} blocks, each with a non-empty mask"
    first_masks = masks_of.cumsum(0) - masks_of
    if not torch.equal(offsets[:, 1].long(), first_masks):
        yield "mask offsets must agree with 'blocks'"
    counts = unpack_bits(masks.unsqueeze(-1)).sum(1)  # (used blocks,)
    if int(counts.sum()) != values:
        yield f"'masks' must mark {values} values"
    ends = functional.pad(counts.cumsum(0), (1, 0))  # values before each mask, and their total
    if not torch.equal(offsets[:, 0].long(), ends[first_masks]):
        yield "value offsets must agree with 'masks'"
    if width % BLOCK:
        last = used[:, width // BLOCK]  # rows that use the last, incomplete block; its mask is their last
        tails = masks[(first_masks + masks_of - 1)[last]]
        if (tails >> (width % BLOCK)).any():
            yield f"'masks' must not point beyond {width} coordinates"
