"""Random signs that a seed alone determines: the same bits on every device and in every version of torch.

torch's own generators promise neither, so the signs come from splitmix64, a counter hashed by integer operations.
"""

import torch
from torch import Tensor

from lpcompress.errors import LpCompressError
from lpcompress.formats.packing import unpack_bits

LARGEST_SEED = 2**40
STREAM = 2**40  # words between the first words of two streams
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def sign_matrix(rows: int, columns: int, seed: int, stream: int, like: Tensor) -> Tensor:
    """Return a (rows, columns) matrix of independent, equally likely +1 and -1.

    Parameters
    ----------
    rows, columns : int
    seed : int
        0 to 2^40.
    stream : int
        Number of the matrix among those of one seed.
    like : Tensor
        The result has its device and dtype.

    Raises
    ------
    LpCompressError
        If the seed is out of range.
    """
    words = splitmix64(seed, stream * STREAM, -(-rows * columns // 64), like.device)
    octets = (words.unsqueeze(-1) >> torch.arange(0, 64, 8, device=like.device)) & 255  # (words, 8), lowest first
    bits = unpack_bits(octets.to(torch.uint8)).flatten()[: rows * columns]
    return (1 - 2 * bits.to(like.dtype)).view(rows, columns)


def splitmix64(seed: int, start: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Return outputs `start` to `start + count` of the generator, 64 bits each as int64, shape (count,).

    References
    ----------
    Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; constants of Vigna's C code.
    """
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        raise LpCompressError(f"seed must be an integer from 0 to {LARGEST_SEED}. Got {seed!r}.")
    counter = torch.arange(start + 1, start + count + 1, dtype=torch.int64, device=device)
    words = counter * signed(GAMMA) + seed  # products wrap around, as in unsigned arithmetic
    words = (words ^ shift_right(words, 30)) * signed(FIRST)
    words = (words ^ shift_right(words, 27)) * signed(SECOND)
    return words ^ shift_right(words, 31)


def shift_right(words: Tensor, places: int) -> Tensor:
    """Shift int64 as if it were unsigned: zeros come in from the left."""
    return (words >> places) & (2 ** (64 - places) - 1)


def signed(word: int) -> int:
    """Return the int64 that has the bits of the unsigned `word`."""
    return word - 2**64 if word >= 2**63 else word
