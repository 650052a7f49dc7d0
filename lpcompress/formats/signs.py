"""Random signs that depend on the seed alone: the same bits on every device and in every version of torch.

torch's generators guarantee neither, so the signs come from splitmix64, a counter hashed by integer operations.
"""

from typing import Any

import torch
from torch import Tensor

from lpcompress.errors import LpCompressError, briefly
from lpcompress.formats.packing import unpack_bits

LARGEST_SEED = 2**40
STREAM = 2**40  # distance between the first words of two streams
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def sign_matrix(rows: int, columns: int, seed: int, stream: int, like: Tensor) -> Tensor:
    """Return a (rows, columns) matrix of independent, equally likely +1 and -1.

    Parameters
    ----------
    rows, columns : int
    seed : int
        0 to 2^40.
    stream : int
        Number of the matrix, so that one seed gives several.
    like : Tensor
        Device and dtype of the result.

    Raises
    ------
    LpCompressError
        If the seed is out of range.

    Examples
    --------
    >>> sign_matrix(2, 8, seed=0, stream=0, like=torch.empty(0))
    tensor([[-1., -1., -1., -1.,  1., -1.,  1., -1.],
            [-1.,  1., -1., -1.,  1.,  1., -1., -1.]])
    """
    words = splitmix64(seed, stream * STREAM, -(-rows * columns // 64), like.device)
    octets = (words.unsqueeze(-1) >> torch.arange(0, 64, 8, device=like.device)) & 255  # (words, 8), lowest first
    bits = unpack_bits(octets.to(torch.uint8)).flatten()[: rows * columns]
    return (1 - 2 * bits.to(like.dtype)).view(rows, columns)


def splitmix64(seed: int, start: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Return `count` outputs of the generator from number `start` on, 64 bits each as int64, shape (count,).

    Raises
    ------
    LpCompressError
        If the seed is out of range.

    References
    ----------
    Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; constants of Vigna's C code.
    """
    refuse_seed(seed)
    counter = torch.arange(start + 1, start + count + 1, dtype=torch.int64, device=device)
    words = counter * signed(GAMMA) + seed  # products wrap around, as in unsigned arithmetic
    words = (words ^ shift_right(words, 30)) * signed(FIRST)
    words = (words ^ shift_right(words, 27)) * signed(SECOND)
    return words ^ shift_right(words, 31)


def refuse_seed(seed: Any) -> None:
    """Raise LpCompressError unless `seed` is in the range of seeds for signs."""
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        raise LpCompressError(f"seed must be an integer from 0 to {LARGEST_SEED}. Got {briefly(seed)}.")


def shift_right(words: Tensor, places: int) -> Tensor:
    """Shift int64 words right as if they were unsigned, filling with zeros."""
    return (words >> places) & (2 ** (64 - places) - 1)


def signed(word: int) -> int:
    """Return the int64 with the bits of the unsigned `word`."""
    return word - 2**64 if word >= 2**63 else word
