"""Frequency tables of the coder: made from counts, and stored in one byte per symbol."""

import numpy as np

from lpcompress.formats.rans import TOTAL, Array, damaged

SYMBOLS = 256  # of a table, the last of which means "outside the table"
OUTSIDE = SYMBOLS - 1
EXACT = 64  # frequencies up to here are stored exactly, larger ones with six significant bits
REST = 255  # stored for the most frequent symbol: what the others leave of TOTAL

_octaves, _steps = np.divmod(np.arange(SYMBOLS - EXACT), EXACT // 2)
STORED = np.concatenate([np.arange(EXACT), EXACT // 2 + _steps << _octaves + 1])
"""The frequency that each byte stands for, ascending."""


def frequencies_of(counts: Array) -> Array:
    """Return frequencies that sum to `TOTAL` and can be stored, for one table.

    Parameters
    ----------
    counts : integer array of shape (SYMBOLS,)
        Not all zero.

    Examples
    --------
    >>> frequencies_of(np.array([90, 9, 1] + [0] * 253))[:4].tolist()
    [3687, 368, 41, 0]
    """
    most = int(counts.argmax())
    share = counts / counts.sum()
    for scale in TOTAL * 0.99 ** np.arange(200):  # smaller if rounding up leaves too little for the most frequent
        wanted = np.where(counts > 0, np.maximum(share * scale, 1), 0)
        nearest = np.searchsorted((STORED[1:] + STORED[:-1]) / 2, wanted)
        frequencies = STORED[np.maximum(nearest, counts > 0)]
        frequencies[most] = 0
        rest = TOTAL - int(frequencies.sum())
        if rest >= max(int(frequencies.max()), 1):  # so that `store` finds it
            frequencies[most] = rest
            return frequencies
    raise AssertionError("256 symbols leave something of 4096")


def store(frequencies: Array) -> bytes:
    """Return the bytes of the tables that are used: number, first symbol, length, and the frequencies of its symbols.

    Parameters
    ----------
    frequencies : integer array of shape (tables, SYMBOLS)
        Rows of zeros are not used.
    """
    used = np.flatnonzero(frequencies.any(1))
    out = bytearray([len(used)])
    for number in used:
        table = frequencies[number]
        stored = np.searchsorted(STORED, table)
        stored[table.argmax()] = REST
        inside = np.flatnonzero(stored[:OUTSIDE])
        first, stop = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        out += bytes([number, first, stop - first, *stored[first:stop].tolist(), stored[OUTSIDE]])
    return bytes(out)


def restore(stored: bytes | memoryview, tables: int) -> tuple[Array, int]:
    """Read tables back; return them, shape (tables, SYMBOLS), and the number of bytes that they took.

    Raises
    ------
    CheckpointError
        If `store` cannot have written these bytes.
    """
    frequencies, at = np.zeros((tables, SYMBOLS), np.int64), 1
    for _ in range(stored[0]):
        if len(stored) < at + 3:
            raise damaged("its frequency tables are cut off")
        number, first, length = stored[at : at + 3]
        held = np.frombuffer(stored[at + 3 : at + 4 + length], np.uint8)
        at += 4 + length
        if number >= tables or first + length > OUTSIDE or len(held) <= length or frequencies[number].any():
            raise damaged("a frequency table has the wrong shape")
        table = frequencies[number]
        table[first : first + length], table[OUTSIDE] = held[:-1], held[-1]
        most = np.flatnonzero(table == REST)
        table[most] = 0
        table[:] = STORED[table]
        rest = TOTAL - int(table.sum())
        if len(most) != 1 or rest <= 0:
            raise damaged("a frequency table has the wrong sum")
        table[most] = rest
    return frequencies, at
