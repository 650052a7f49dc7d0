"""Entropy coder: range variant of asymmetric numeral systems (rANS), vectorised over many interleaved states.

Symbol t of a section is coded by state t mod lanes, so that one step of NumPy codes `lanes` symbols. All states share
one sequence of 16-bit words. Only integers are used, so the bytes are the same on every platform.

References
----------
Duda, "Asymmetric numeral systems", arXiv:1311.2540. Giesen, "Interleaved entropy coders", arXiv:1402.3392.
"""

from collections.abc import Iterable
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpcompress.errors import CheckpointError

PRECISION = 12  # bits of a frequency
TOTAL = 1 << PRECISION
LEAST = 1 << 14  # states are in [LEAST, LEAST << WORD), and so below 2^30
WORD = 16
STATE_BYTES = 4
SLACK = 0.33  # bits that a symbol may take beyond those of its frequency f: a state is at least 4 f, log2(1 + 1/4)
# the decoder's constants, as numbers of NumPy: with those of Python, each operation would convert them
FREQUENCY_AT, PLACE_AT = np.uint32(20), np.uint32(8)  # a slot: frequency - 1, place within the symbol, symbol
PLACE_BITS, SHIFT_PRECISION = np.uint32(TOTAL - 1), np.uint32(PRECISION)
LEAST_STATE, SHIFT_WORD = np.uint32(LEAST), np.uint32(WORD)
LONGEST = 1 << 16  # steps of all sections together: bounds the time that a hostile stream can take

Array = NDArray[Any]


def encode(
    sections: Iterable[tuple[Array, Array]], frequencies: Array, lanes: int, words: Array
) -> tuple[Array, Array]:
    """Encode sections of symbols.

    Parameters
    ----------
    sections : iterable of (tables, symbols)
        Integer arrays of equal length: the table of each symbol, and the symbol. The last section comes first, because
        a coder of this kind writes backwards.
    frequencies : integer array of shape (tables, symbols)
        Rows sum to `TOTAL`; a symbol that occurs has at least 1. At most 2^16 entries.
    lanes : int
        Number of states.
    words : uint16 array
        Written from its end on; see `capacity`.

    Returns
    -------
    states : uint32 array of shape (lanes,)
    words : uint16 array
        The part of `words` that was written; what `Decoder` reads.

    Examples
    --------
    >>> zeros = np.zeros(80, np.uint8)
    >>> states, words = encode([(zeros, zeros)], np.array([[1024, 3072]]), 2, np.empty(capacity(160, 80, 2), np.uint16))
    >>> len(words) * 16  # 80 symbols of 2 bits
    160
    """
    size = np.uint16(frequencies.shape[1])
    starts = (frequencies.cumsum(1) - frequencies).astype(np.uint32).ravel()
    counts = frequencies.astype(np.uint32).ravel()
    states, at = np.full(lanes, LEAST, np.uint32), len(words)
    for tables, symbols in sections:
        for begin in reversed(range(0, len(symbols), lanes)):
            places = np.multiply(tables[begin : begin + lanes], size, dtype=np.uint16)
            places += symbols[begin : begin + lanes]
            f, x = counts.take(places), states[: len(places)]
            full = (x >= f << np.uint32(WORD + 2)).nonzero()[0]
            if count := len(full):
                leaving = x.take(full)
                words[at - count : at] = leaving  # the lowest 16 bits
                at -= count
                leaving >>= np.uint32(WORD)
                x[full] = leaving
            # twice as fast as integer division, and exact: float64 holds a quotient of 30 bits and 12 bits more
            quotients = (x.view(np.int32) / f.view(np.int32)).astype(np.uint32)
            x += quotients * (np.uint32(TOTAL) - f)  # TOTAL times the quotient, plus the remainder
            x += starts.take(places)
    return states, words[at:]


def capacity(bits: float, symbols: int, lanes: int) -> int:
    """Return how many words `encode` writes at most, given the bits of all symbols by their frequencies."""
    return ceil((bits + SLACK * symbols) / WORD) + 2 * lanes


class Decoder:
    """Reads back what `encode` wrote, section by section.

    Parameters
    ----------
    states : uint32 array of shape (lanes,)
    words : uint16 array
    frequencies : integer array of shape (tables, symbols)
        Rows sum to `TOTAL`, or to zero for a table that is not used. At most 256 symbols.

    Raises
    ------
    CheckpointError
        If a state is not one that `encode` returns. `read` and `finish` also raise it.

    Examples
    --------
    >>> section, frequencies = (np.zeros(3, np.uint8), np.array([0, 1, 0], np.uint8)), np.array([[3072, 1024]])
    >>> decoder = Decoder(*encode([section], frequencies, 2, np.empty(9, np.uint16)), frequencies)
    >>> decoder.read(np.zeros(3, np.uint8))
    array([0, 1, 0], dtype=uint8)
    >>> decoder.finish()
    """

    def __init__(self, states: Array, words: Array, frequencies: Array) -> None:
        if not len(states) or not ((states >= LEAST) & (states < LEAST << WORD)).all():
            raise damaged("its states are out of range")
        self._states, self._words, self._next = states.astype(np.uint32), words, 0
        self._steps = 0
        self._known = frequencies.sum(1) == TOTAL
        slots = np.zeros((len(frequencies), TOTAL), np.uint32)  # tables that are not used touch no memory
        for table in np.flatnonzero(self._known):
            slots[table] = _slots(frequencies[table])
        self._slots = slots.ravel()

    def read(self, tables: Array) -> Array:
        """Return the symbols of the next section, uint8 (symbols,), given the table of each, uint8 (symbols,).

        `require` must have passed the tables.
        """
        lanes = len(self._states)
        self._steps += -(-len(tables) // lanes)
        if self._steps > LONGEST:
            raise damaged("it has too few states")
        out = np.empty(len(tables), np.uint8)
        places = np.left_shift(tables, PRECISION, dtype=np.uint32)
        known, at = self._slots, 0
        words = self._words[self._next :][: len(tables)].astype(np.uint32)  # at most one a symbol
        for begin in range(0, len(tables), lanes):  # each line is a pass over the states: there are few, and in place
            place, x = places[begin : begin + lanes], self._states[: len(tables) - begin]
            place |= x & PLACE_BITS
            slots = known.take(place)
            out[begin : begin + lanes] = slots  # the lowest byte
            x >>= SHIFT_PRECISION
            x += x * (slots >> FREQUENCY_AT)
            slots >>= PLACE_AT
            slots &= PLACE_BITS
            x += slots
            empty = (x < LEAST_STATE).nonzero()[0]
            if count := len(empty):
                if at + count > len(words):
                    raise damaged("it ends too early")
                refilled = x.take(empty)
                refilled <<= SHIFT_WORD
                refilled |= words[at : at + count]
                x[empty] = refilled
                at += count
        self._next += at
        return out

    def require(self, tables: Array) -> None:
        """Raise CheckpointError unless all these tables are in the stream; `read` relies on it."""
        if not self._known.take(tables).all():
            raise damaged("a frequency table is missing")

    def finish(self) -> None:
        """Raise CheckpointError unless everything was read and the states are back at their start."""
        if self._next != len(self._words) or not (self._states == LEAST).all():
            raise damaged("it does not end where it should")


def _slots(frequencies: Array) -> Array:
    """Return the slots of a table, uint32 (TOTAL,): what a state is decoded to, by its lowest bits, in one look-up."""
    counts = frequencies.astype(np.uint32)
    first = (counts - 1 << FREQUENCY_AT) + np.arange(
        len(counts), dtype=np.uint32
    )  # of each symbol; wraps for absent ones
    first -= counts.cumsum(dtype=np.uint32) - counts << PLACE_AT
    slots = first.repeat(counts)
    slots += np.arange(TOTAL, dtype=np.uint32) << PLACE_AT
    return slots


def damaged(what: str) -> CheckpointError:
    """Return the error for a stream that `encode` cannot have written."""
    return CheckpointError(f"the coded stream is damaged: {what}. Copy the checkpoint again, or compress again.")
