"""The two-level bit masks that say which coordinates each row of `SparseCoded` has a number for.

A row's coordinates are cut into blocks of eight. `blocks` has one bit a block: does the row use any of it? `masks` has
one byte for each block that is used: which of the eight? Numbers and masks stand row by row in one store each, without
gaps; `offsets` says where a row's begin.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from lpcompress.formats.packing import BLOCK, pack_bits, unpack_bits


def n_blocks(width: int) -> int:
    """Return the number of blocks that `width` coordinates are cut into."""
    return -(-width // BLOCK)


def gather(store: Tensor, first: Tensor, used: Tensor) -> Tensor:
    """Unpack rows of a store that holds the used entries only, one after the other.

    Parameters
    ----------
    store : Tensor of shape (entries,)
    first : integer Tensor of shape (rows, 1)
        Where the entries of each row begin.
    used : bool Tensor of shape (rows, columns)

    Returns
    -------
    Tensor of shape (rows, columns)
        Zero where nothing is used.

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
    return store.index_select(0, spots.view(-1)).view(spots.shape) * used  # thrice as fast as `where`


def all_used(rows: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return blocks (rows, bytes) and masks (rows * n_blocks(width),) of rows that use every coordinate."""
    masks = pack_bits(torch.ones(1, width, dtype=torch.bool, device=device))
    blocks = pack_bits(torch.ones_like(masks, dtype=torch.bool))
    return blocks.expand(rows, -1), masks[0].repeat(rows)


def damage(blocks: Tensor, masks: Tensor, offsets: Tensor, values: int, width: int) -> Iterator[str]:
    """Say what must hold and does not, if blocks, masks and offsets do not belong together.

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
        A sentence without its full stop. Later ones make sense only if there was none before.
    """
    used = unpack_bits(blocks)  # (n, bits)
    if used[:, n_blocks(width) :].any():
        yield f"'blocks' must not point beyond {width} coordinates"
    masks_of = used.sum(1)  # (n,)
    if int(masks_of.sum()) != masks.numel() or not bool((masks != 0).all()):
        yield f"'blocks' must mark {masks.numel()} blocks, each with a mask that is not empty"
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
        last = used[:, width // BLOCK]  # rows that use the last, incomplete block: it is their last mask
        tails = masks[(first_masks + masks_of - 1)[last]]
        if (tails >> (width % BLOCK)).any():
            yield f"'masks' must not point beyond {width} coordinates"
