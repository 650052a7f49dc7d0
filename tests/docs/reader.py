"""A reader of coded layers in NumPy that uses what docs/format.md says, and nothing of lpcompress."""

import zlib

import numpy as np

PART = 131_072


def matrix(stream, scales, levels, shape, width):
    """Return the matrix (n, d) of a coded layer; width is None without a basis."""
    (n, d), w = shape, shape[1] if width is None else width
    read = Symbols(bytes(stream))
    steps, rows, columns = (np.cumsum(values(read, np.full(size, k))) for size, k in ((n, 64), (n, 65), (w, 66)))
    basis = None
    if width is not None:
        vectors = np.cumsum(values(read, np.full(w, 66)))
        basis = array(read, vectors, np.zeros(d, np.int64))
    codes = array(read, columns, rows).T
    read.end()
    level = sum(x * part for x, part in zip(levels, (codes, codes.clip(-1, 1), codes.clip(-2, 2)), strict=True))
    coordinates = level * 2.0 ** (steps / 4)[:, None] * scales
    return coordinates if basis is None else coordinates @ basis


def array(read, outer, inner):
    """Return values of shape (outer, inner), whose tables are the classes of two lists of scales."""
    length = max(PART // len(inner), 1)
    parts = []
    for start in range(0, len(outer), length):
        classes = ((outer[start : start + length, None] + inner) // 2).clip(0, 63)
        parts.append(section_of_values(read, classes.ravel()))
    return np.concatenate(parts).reshape(len(outer), len(inner))


def values(read, tables):
    """Return a list of values."""
    return np.concatenate([section_of_values(read, tables[at : at + PART]) for at in range(0, len(tables), PART)])


def section_of_values(read, tables):
    symbols = read(tables)
    found = symbols - 127
    shifts = np.where(tables < 64, np.maximum((tables - 10) // 2 - 2, 0), 0)
    lower = np.zeros(len(tables), np.int64)
    for plane in range(0, shifts.max(), 8):
        some = shifts > plane
        lower[some] += read(66 + np.minimum(shifts[some] - plane, 8)) << plane
    outside = symbols == 255
    if outside.any():
        found[outside] = read(np.full(4 * outside.sum(), 74)).astype(np.uint8).view("<i4")
    return np.where(shifts > 0, (found << shifts) + lower - (1 << shifts >> 1), found)


class Symbols:
    """The symbols of a stream, a section at a time."""

    def __init__(self, stream):
        assert zlib.crc32(stream[:-4]) == int.from_bytes(stream[-4:], "little")
        assert stream[0] == 1
        self.lanes = int.from_bytes(stream[1:5], "little")
        self.frequencies, at = tables_of(stream)
        self.starts = np.cumsum(self.frequencies, axis=1) - self.frequencies
        self.states = np.frombuffer(stream[at : at + 4 * self.lanes], "<u4").astype(np.int64)
        self.words = np.frombuffer(stream[at + 4 * self.lanes : -4], "<u2").astype(np.int64)
        self.symbol_of = np.zeros((75, 4096), np.int64)
        for table in range(75):
            if self.frequencies[table].sum() == 4096:
                self.symbol_of[table] = np.repeat(np.arange(256), self.frequencies[table])
        self.used = 0

    def __call__(self, tables):
        out = []
        for begin in range(0, len(tables), self.lanes):
            k = tables[begin : begin + self.lanes]
            state = self.states[: len(k)]
            slot = state % 4096
            symbol = self.symbol_of[k, slot]
            state = self.frequencies[k, symbol] * (state // 4096) + slot - self.starts[k, symbol]
            low = np.flatnonzero(state < 1 << 14)
            state[low] = (state[low] << 16) + self.words[self.used : self.used + len(low)]
            self.used += len(low)
            self.states[: len(k)] = state
            out.append(symbol)
        return np.concatenate(out) if out else np.zeros(0, np.int64)

    def end(self):
        assert self.used == len(self.words) and (self.states == 1 << 14).all()


def tables_of(stream):
    """Return the 75 tables of frequencies and where they end."""
    frequencies, at = np.zeros((75, 256), np.int64), 6
    for _ in range(stream[5]):
        number, first, length = stream[at : at + 3]
        held = stream[at + 3 : at + 4 + length]
        at += 4 + length
        symbols = [*range(first, first + length), 255]
        for symbol, c in zip(symbols, held, strict=True):
            octave, rest = divmod(c - 64, 32)
            frequencies[number, symbol] = c if c < 64 else (32 + rest) << (octave + 1) if c < 255 else 0
        frequencies[number, symbols[list(held).index(255)]] = 4096 - frequencies[number].sum()
    for bits in range(1, 9):
        frequencies[66 + bits, : 1 << bits] = 4096 >> bits
    return frequencies, at
