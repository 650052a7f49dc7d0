"""The stream of a coded matrix: all its integers, entropy coded.

The scale of a code is modelled as a row's times a column's, in quarter octaves. Their product, in half octaves, is the
code's class, and every class has one table of frequencies: codes of a class are assumed to be independent.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpcompress.formats.coded_tables import OUTSIDE, SYMBOLS, frequencies_of, restore, store
from lpcompress.formats.rans import LONGEST, STATE_BYTES, TOTAL, Array, Decoder, capacity, damaged, encode
from lpcompress.progress import Told, unheard

CLASSES = 64  # class k: standard deviation 2^((k - UNIT) / 2)
UNIT = 10
STEPS, ROWS, COLUMNS = range(CLASSES, CLASSES + 3)  # tables of differences between neighbours
UNIFORM = CLASSES + 2  # table UNIFORM + b: b bits, all equally likely
STORED_TABLES, TABLES = CLASSES + 3, CLASSES + 11
MOST_STEPS = 63
FARTHEST = 127  # values beyond are outside the tables; symbol = value + FARTHEST
KEPT_OCTAVES = 3  # a class has a table for its leading bits, down to an eighth of the standard deviation at most
SHIFTS = np.zeros(TABLES, np.int64)  # bits below those, which are all but uniform
SHIFTS[:CLASSES] = np.maximum((np.arange(CLASSES) - UNIT) // 2 - KEPT_OCTAVES + 1, 0)
BYTE = 8  # bits of a plane: lower bits are coded eight at a time
PLANES = [(UNIFORM + np.clip(SHIFTS - bit, 0, BYTE)).astype(np.uint8) for bit in range(0, int(SHIFTS.max()), BYTE)]
"""The table of each class's lower bits in each plane; `UNIFORM` itself if it has none there."""

HEADER = struct.Struct("<BI")  # version, lanes
VERSION = 1
CHECKSUM = struct.Struct("<I")
BYTES_BESIDE_LANE = 3  # that a state takes more than it holds
BYTES_PER_LANE = 750  # of the stream, so that states are 0.4 % of it
MOST_LANES = 1 << 14
LINE = 32  # bytes of each row that are read at a time: half a cache line, as fast as all of it, and half the memory
COUNTING = 0.35  # share of the time of encoding in which symbols are counted
PART = 1 << 17  # values coded at a time, so that what is made of them fits in the cache

Part = Callable[[], list[tuple[Array, Array]]]
"""Makes the sections of a few values: they are made twice, to count and to encode, because all of them would take more
memory than the codes."""


@dataclass(frozen=True)
class Codes:
    """What a stream holds.

    Attributes
    ----------
    codes : int8, int16 or int32 Tensor of shape (n, width)
    steps : int16 Tensor of shape (n,)
        Step of each row in quarter octaves: row i is multiplied by 2^(steps[i] / 4). -63 to 63, so that float16 holds
        it.
    rows, columns : int16 Tensor of shape (n,) and of shape (width,)
        Scales, for the classes only: codes are of the order of 2^((rows[i] + columns[j]) / 4 - UNIT / 2).
    basis : int8 Tensor of shape (width, d) or None
    vectors : int16 Tensor of shape (width,) or None
        Scales of the basis vectors, as `rows`.
    """

    codes: Tensor
    steps: Tensor
    rows: Tensor
    columns: Tensor
    basis: Tensor | None = None
    vectors: Tensor | None = None


def classes(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the class of each code: uint8 of shape (width, n), columns first, as they are coded.

    Examples
    --------
    >>> classes(torch.tensor([20, 24, 300]), torch.tensor([0, -8]))
    tensor([[10, 12, 63],
            [ 6,  8, 63]], dtype=torch.uint8)
    """
    found = torch.empty(len(columns), len(rows), dtype=torch.uint8, device=rows.device)
    rows = rows.to(torch.int16)
    for some, part in zip(_parts(found), columns.to(torch.int16).split(_length(found)), strict=True):
        some.copy_((rows + part.unsqueeze(1)).bitwise_right_shift_(1).clamp_(0, CLASSES - 1))
    return found


def scale_exponents(squares: Tensor) -> Tensor:
    """Return `Codes.rows` of mean squared codes, int16.

    Examples
    --------
    >>> scale_exponents(torch.tensor([1.0, 4.0, 0.0]))
    tensor([20, 24,  0], dtype=torch.int16)
    """
    return (2 * squares.double().clamp_min(1e-9).log2() + 2 * UNIT).round_().clamp_(0, 255).to(torch.int16)


def pack(held: Codes, told: Told = unheard) -> Tensor:
    """Return the stream, uint8 (bytes,); `told` takes the share of the work that is done.

    Examples
    --------
    >>> zeros = torch.zeros(4, dtype=torch.int16)
    >>> held = Codes(torch.tensor([[3, -1], [0, 2000], [0, 1], [5, -7]], dtype=torch.int16), zeros, zeros, zeros[:2])
    >>> unpack(pack(held), 4, 2).codes.tolist()
    [[3, -1], [0, 2000], [0, 1], [5, -7]]
    """
    parts = [
        *_exponent_parts(held.steps, STEPS),
        *_exponent_parts(held.rows, ROWS),
        *_exponent_parts(held.columns, COLUMNS),
    ]
    if held.basis is not None and held.vectors is not None:
        parts += _exponent_parts(held.vectors, COLUMNS)
        parts += _code_parts(held.basis, torch.zeros(held.basis.shape[1]), held.vectors)
    parts += _code_parts(held.codes.T, held.rows, held.columns)
    counts = np.zeros((TABLES, SYMBOLS), np.int64)
    for done, part in enumerate(parts):
        told(COUNTING * done / len(parts))
        for of, symbols in part():
            counts += np.bincount(of * np.int64(SYMBOLS) + symbols, minlength=counts.size).reshape(counts.shape)
    frequencies = _with_uniform(np.zeros((TABLES, SYMBOLS), np.int64))
    for table in np.flatnonzero(counts[:STORED_TABLES].any(1)):
        frequencies[table] = frequencies_of(counts[table])
    n_symbols, bits = int(counts.sum()), (counts * -np.log2(np.maximum(frequencies, 1) / TOTAL)).sum()
    least = 2 * n_symbols // LONGEST + 1  # a section may end within a step
    lanes = min(max(int(bits / 8) // BYTES_PER_LANE, least), max(MOST_LANES, least))
    before = HEADER.pack(VERSION, lanes) + store(frequencies[:STORED_TABLES])
    room = len(before) + STATE_BYTES * lanes
    room += room % 2
    # the words are written from the end of the body, which begins right before the first of them: nothing is copied
    body = np.empty(room + 2 * capacity(float(bits), n_symbols, lanes) + CHECKSUM.size, np.uint8)

    def backwards() -> Iterator[tuple[Array, Array]]:
        for left, part in reversed([*enumerate(parts)]):
            told(1 - (1 - COUNTING) * (left + 1) / len(parts))
            yield from reversed(part())

    states, words = encode(backwards(), frequencies, lanes, body[room : -CHECKSUM.size].view("<u2"))
    start = len(body) - CHECKSUM.size - words.nbytes - len(before) - states.nbytes
    written = body[start:]
    written[: len(before)] = np.frombuffer(before, np.uint8)
    written[len(before) :][: states.nbytes] = states.astype("<u4", copy=False).view(np.uint8)
    written[-CHECKSUM.size :] = np.frombuffer(CHECKSUM.pack(zlib.crc32(written[: -CHECKSUM.size].data)), np.uint8)
    return torch.frombuffer(body, dtype=torch.uint8, offset=start)


def unpack(stream: Tensor, rows: int, width: int, columns: int | None = None) -> Codes:
    """Decode a stream; everything in it is checked.

    Parameters
    ----------
    stream : uint8 Tensor of shape (bytes,)
    rows, width : int
        Shape of the codes.
    columns : int, optional
        Length of the basis vectors, if there is a basis.

    Raises
    ------
    CheckpointError
        If `pack` cannot have written the stream, for these shapes.
    """
    decoder = _opened(stream.cpu().numpy().data)  # slices of which are no copies
    steps = _exponents(decoder, rows, STEPS, -MOST_STEPS, 2 * MOST_STEPS)
    scales = _exponents(decoder, rows, ROWS, 0)
    of_columns = _exponents(decoder, width, COLUMNS, -128)
    basis = vectors = None
    if columns is not None:
        vectors = _exponents(decoder, width, COLUMNS, 0)
        values = _get(decoder, torch.zeros(columns), vectors)
        if values.dtype != torch.int8:
            raise damaged("its basis is out of range")
        basis = values.T.contiguous()
    codes = _get(decoder, scales, of_columns)
    decoder.finish()
    return Codes(codes, steps, scales, of_columns, basis, vectors)


def _opened(stream: memoryview) -> Decoder:
    """Check the frame of a stream and return the decoder of its sections."""
    body, checksum = stream[: -CHECKSUM.size], stream[-CHECKSUM.size :]
    if len(body) <= HEADER.size or CHECKSUM.unpack(checksum)[0] != zlib.crc32(body):
        raise damaged("its checksum is wrong")
    version, lanes = HEADER.unpack_from(body)
    if version != VERSION:
        raise damaged(f"its version is {version}, not {VERSION}")
    frequencies, taken = restore(body[HEADER.size :], STORED_TABLES)
    numbers = body[HEADER.size + taken :]
    split = STATE_BYTES * lanes
    if len(numbers) < split or (len(numbers) - split) % 2:
        raise damaged("its length is wrong")
    states, words = np.frombuffer(numbers[:split], "<u4"), np.frombuffer(numbers[split:], "<u2")
    unstored = np.zeros((TABLES - STORED_TABLES, SYMBOLS), np.int64)
    return Decoder(states, words, _with_uniform(np.concatenate([frequencies, unstored])))


def _with_uniform(frequencies: Array) -> Array:
    """Fill in the tables of 1 to 8 equally likely bits, in place."""
    for bits in range(1, 9):
        frequencies[UNIFORM + bits, : 1 << bits] = TOTAL >> bits
    return frequencies


def _exponent_parts(exponents: Tensor, table: int) -> list[Part]:
    """Return the parts of differences between neighbours."""
    differences = torch.diff(exponents.int(), prepend=exponents.new_zeros(1, dtype=torch.int32)).numpy()
    lengths = range(0, len(differences), PART)
    return [partial(_sections, differences[at : at + PART], np.array(table, np.uint8)) for at in lengths]


def _code_parts(values: Tensor, rows: Tensor, columns: Tensor) -> list[Part]:
    """Return the parts of codes (columns, rows), given the scales of both.

    The codes are in memory row by row, so that a few columns of every row, `LINE` bytes, are read at a time.
    """

    def part(some: Tensor, scales: Tensor) -> list[tuple[Array, Array]]:
        held = some.contiguous()
        pieces = zip(_parts(held), scales.split(_length(held)), strict=True)
        made = (_sections(codes.numpy().ravel(), classes(rows, of).numpy().ravel()) for codes, of in pieces)
        return [section for sections in made for section in sections]

    length = _slab(values)
    return [partial(part, *each) for each in zip(values.split(length), columns.split(length), strict=True)]


def _exponents(decoder: Decoder, length: int, table: int, least: int, most: int = 255) -> Tensor:
    """Return the next section, whose differences are in a table: int16 (length,), from `least` to `least` + `most`."""
    tables = np.full(length, table, np.uint8)
    decoder.require(tables)
    parts = [_get_part(decoder, tables[start : start + PART]) for start in range(0, length, PART)]
    exponents = torch.from_numpy(np.concatenate([np.empty(0, np.int8), *parts])).long().cumsum(0)
    if length and not least <= int(exponents.min()) <= int(exponents.max()) <= least + most:
        raise damaged("its scales are out of range")
    return exponents.to(torch.int16)


def _get(decoder: Decoder, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the next codes, in the smallest type that holds them: shape (rows, columns).

    Their tables are the classes of `rows` and `columns`, and are made for one part at a time.
    """
    decoder.require(classes(rows.unique(), columns.unique()).numpy())
    values, start = torch.empty(len(rows), len(columns), dtype=torch.int8), 0
    length, slab = _length(values.T), _slab(values.T)
    for scales in columns.split(slab):
        parts = []
        for some in scales.split(length):
            part = torch.from_numpy(_get_part(decoder, classes(rows, some).numpy().ravel()))
            values = widened(values, part)
            parts.append(part.to(values.dtype).view(len(some), -1))
        values[:, start : start + slab] = torch.cat(parts).T
        start += slab
    return values


def widened(codes: Tensor, values: Tensor) -> Tensor:
    """Return integer `codes` in int8, int16 or int32: their own type, or a longer one that also holds `values`.

    Raises
    ------
    CheckpointError
        If not even int32 holds them.
    """
    if values.dtype == torch.int8:
        return codes
    low, high = (int(each) for each in torch.aminmax(values)) if values.numel() else (0, 0)
    for dtype in (torch.int8, torch.int16, torch.int32):
        if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max:
            return codes.to(torch.promote_types(codes.dtype, dtype))
    raise damaged("a code is out of range")


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Split a tensor along its first dimension into parts of about `PART` numbers."""
    return tensor.split(_length(tensor))


def _length(tensor: Tensor) -> int:
    """Return the length of such a part."""
    return max(1, PART // max(1, prod(tensor.shape[1:])))


def _slab(values: Tensor) -> int:
    """Return how many columns of codes (columns, rows) are read or written at a time: `LINE` bytes of every row."""
    length = _length(values)
    return length * max(1, LINE // values.element_size() // length)


def _sections(numbers: Array, tables: Array) -> list[tuple[Array, Array]]:
    """Return the sections of one part: leading bits, lower bits, values outside the tables."""
    of = np.broadcast_to(tables, numbers.shape)
    shifts, sections = SHIFTS.astype(np.int32).take(of), []
    if shifts.any():
        numbers = numbers.astype(np.int32)
        leading = numbers >> shifts
        lower = numbers - (leading << shifts) + (1 << shifts >> 1)
        leading += lower >> shifts  # rounded to the nearest
        lower &= (1 << shifts) - 1
        for lowest, of_bits, some in _planes(of):
            sections.append((of_bits, (lower[some] >> lowest).astype(np.uint8)))
    else:
        leading = numbers
    symbols = (leading + np.int8(FARTHEST)).astype(np.uint8)
    outside = ((leading > FARTHEST) | (leading < -FARTHEST)).nonzero()[0]
    if len(outside):
        symbols[outside] = OUTSIDE
        exact = leading[outside].astype("<i4").view(np.uint8)
        sections.append((np.full(len(exact), UNIFORM + BYTE, np.uint8), exact))
    return [(of, symbols), *sections]


def _get_part(decoder: Decoder, of: Array) -> Array:
    """Return the values of one part, int8 or int64."""
    symbols, shifts = decoder.read(of), SHIFTS.take(of if SHIFTS[of.max(initial=0)] else 0)
    outside = (symbols == OUTSIDE).nonzero()[0] if symbols.max(initial=0) == OUTSIDE else np.zeros(0, np.int64)
    values: Any = (symbols - np.uint8(FARTHEST)).view(np.int8)
    if len(outside) or shifts.any():
        values, lower = values.astype(np.int64), -(1 << shifts >> 1)
        for lowest, of_bits, some in _planes(of):
            lower[some] += decoder.read(of_bits).astype(np.int64) << lowest
        if len(outside):
            values[outside] = decoder.read(np.full(4 * len(outside), UNIFORM + BYTE, np.uint8)).view("<i4")
        values <<= shifts
        values += lower
    return values


def _planes(of: Array) -> Iterator[tuple[int, Array, Any]]:
    """Yield, for each plane in which values of the tables `of` have bits: its lowest bit, tables, and which values."""
    for number, tables in enumerate(PLANES):
        found = tables.take(of)
        some: Any = found > UNIFORM
        some = slice(None) if some.all() else some  # as a rule, and much faster
        if len(found[some]):
            yield number * BYTE, found[some], some
