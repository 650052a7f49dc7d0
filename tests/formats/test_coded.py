"""The coded stream: what goes in comes out, its size, and streams that were tampered with."""

import zlib
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lpcompress.errors import CheckpointError
from lpcompress.formats import coded_stream, rans
from lpcompress.formats.coded_stream import CHECKSUM, Codes, classes, pack, scale_exponents, unpack
from lpcompress.formats.coded_tables import SYMBOLS, frequencies_of, restore, store
from lpcompress.formats.rans import TOTAL, Decoder, encode
from lpcompress.nn import build


def random_codes(rows, width, deviation, seed=0, columns=None):
    """Gaussian integers with rows and columns of uneven scale, and a basis of `columns` columns or none."""
    generator = torch.Generator().manual_seed(seed)
    uneven = torch.exp(torch.randn(rows, 1, generator=generator)) * torch.linspace(1.5, 0.1, width)
    codes = (torch.randn(rows, width, generator=generator) * uneven * deviation).round()
    relative = codes.square().mean(0) / codes.square().mean().clamp_min(1e-9)
    basis = vectors = None
    if columns:
        basis = (torch.randn(width, columns, generator=generator) * 30).round().clamp(-127, 127).to(torch.int8)
        vectors = scale_exponents(basis.double().square().mean(1))
    largest = float(codes.abs().max())
    return Codes(
        codes.to(torch.int8 if largest < 128 else torch.int16 if largest < 2**15 else torch.int32),
        torch.randint(-63, 64, (rows,), generator=generator, dtype=torch.int16),
        scale_exponents(codes.square().mean(1)),
        (2 * relative.clamp_min(1e-9).log2()).round().clamp(-128, 127).to(torch.int16),
        basis,
        vectors,
    )


def assert_equal(found, expected):
    for field in fields(expected):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        assert (ours is None) == (theirs is None)
        assert theirs is None or (ours.dtype == theirs.dtype and torch.equal(ours, theirs)), field.name


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    rows=st.integers(1, 60),
    width=st.integers(1, 30),
    deviation=st.sampled_from([0.0, 0.05, 1.0, 20.0, 3000.0, 3e6]),
    columns=st.sampled_from([None, 1, 25]),
    seed=st.integers(0, 99),
)
def test_what_goes_in_comes_out(rows, width, deviation, columns, seed):
    held = random_codes(rows, width, deviation, seed, columns)
    assert_equal(unpack(pack(held), rows, width, columns), held)


@pytest.mark.parametrize("deviation", [1.0, 3e6])
def test_many_parts_and_slabs(monkeypatch, deviation):
    held = random_codes(300, 30, deviation)
    for part in (64, 1000, 7000):  # numbers: less than a column, some columns, most of them
        monkeypatch.setattr(coded_stream, "PART", part)
        assert_equal(unpack(pack(held), 300, 30), held)


def test_values_far_outside_their_class():
    held = random_codes(40, 8, 0.3)
    codes = held.codes.int()
    codes[3, 2], codes[9, 7], codes[10, 0] = 2**31 - 1, -(2**31), 200
    found = unpack(pack(Codes(codes, held.steps, held.rows, held.columns)), 40, 8)
    assert torch.equal(found.codes, codes)


@pytest.mark.parametrize("deviation", [0.2, 1.0, 5.0])
def test_size_is_within_a_hundredth_of_the_entropy(deviation):
    held = random_codes(2000, 150, deviation)
    kinds, symbols = classes(held.rows, held.columns).T.flatten().long(), held.codes.flatten().long()
    counts = torch.zeros(64, 4096).index_put_((kinds, symbols + 2048), torch.ones(1), accumulate=True).double()
    bits = -(counts * (counts / counts.sum(1, keepdim=True)).log2().nan_to_num(neginf=0)).sum()
    for exponents in (held.rows, held.steps):
        seen = torch.unique(torch.diff(exponents), return_counts=True)[1].double()
        bits -= (seen * (seen / seen.sum()).log2()).sum()
    assert len(pack(held)) * 8 <= 1.01 * float(bits) + 8 * 1000  # tables take a kilobyte, whatever the size


def test_the_same_bytes_for_ever():
    """Only integers decide them; a change here would be a change of the format."""
    codes = torch.arange(-40, 40, dtype=torch.int8).view(16, 5)
    exponents = torch.arange(16, dtype=torch.int16)
    stream = pack(Codes(codes, exponents, exponents + 30, torch.zeros(5, dtype=torch.int16)))
    assert f"{zlib.crc32(stream.numpy().tobytes()):08x}" == "2144df1c"


@pytest.fixture(scope="module")
def small():
    """A stream, and the shape of what is in it."""
    return pack(random_codes(12, 9, 2.0, columns=7)), (12, 9, 7)


def test_every_changed_byte_is_an_error(small):
    stream, shape = small
    for place in range(len(stream)):
        changed = stream.clone()
        changed[place] ^= 1 << place % 8
        with pytest.raises(CheckpointError, match="the coded stream is damaged"):
            unpack(changed, *shape)


@pytest.mark.parametrize("length", [0, 3, 9, 40, -1])
def test_a_stream_that_is_cut_off_or_too_long_is_an_error(small, length):
    stream, shape = small
    with pytest.raises(CheckpointError, match="the coded stream is damaged"):
        unpack(stream[:length], *shape)
    with pytest.raises(CheckpointError, match="the coded stream is damaged"):
        unpack(torch.cat([stream, stream[:1]]), *shape)


@pytest.mark.parametrize("shape", [(12, 8, 7), (11, 9, 7), (12, 9, 6), (12, 9, None), (13, 9, 7)])
def test_another_shape_is_an_error(small, shape):
    with pytest.raises(CheckpointError, match="the coded stream is damaged"):
        unpack(small[0], *shape)


@pytest.mark.filterwarnings("error")
def test_hostile_streams_with_a_right_checksum_never_crash(small):
    stream, shape = small
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        body = bytearray(stream[: -CHECKSUM.size].numpy().tobytes())
        for _ in range(generator.integers(1, 4)):
            body[generator.integers(len(body))] = generator.integers(256)
        body = body[: len(body) - generator.integers(3)]
        hostile = bytes(body) + CHECKSUM.pack(zlib.crc32(bytes(body)))
        try:
            found = unpack(torch.frombuffer(bytearray(hostile), dtype=torch.uint8), *shape)
        except CheckpointError as error:
            assert "the coded stream is damaged" in str(error)
            refused += 1
        else:
            assert found.codes.shape == shape[:2]
    assert refused > 590  # the states at the end give it away


def test_more_basis_vectors_than_columns_are_refused():
    spec = {"kind": "coded_linear", "shape": [6, 4], "width": 5, "stream": 100}
    with pytest.raises(CheckpointError, match="'width' must be at most 4"):
        build(spec, nn.Linear(4, 6))


def test_too_few_states_for_the_symbols_are_refused(monkeypatch):
    section, frequencies = (np.zeros(999, np.uint8), np.zeros(999, np.uint8)), np.array([[TOTAL]])
    states, words = encode([section], frequencies, 1, np.empty(1000, np.uint16))
    monkeypatch.setattr(rans, "LONGEST", 998)
    with pytest.raises(CheckpointError, match="too few states"):
        Decoder(states, words, frequencies).read(section[0])


@given(st.lists(st.integers(0, 10**6), min_size=SYMBOLS, max_size=SYMBOLS).filter(any), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_frequencies_are_stored_as_they_are(counts, sparse):
    counts = np.array(counts) * (np.arange(SYMBOLS) % 4 >= sparse)
    if not counts.any():
        return
    frequencies = np.zeros((5, SYMBOLS), np.int64)
    frequencies[3] = frequencies_of(counts)
    assert frequencies[3].sum() == TOTAL and ((frequencies[3] > 0) == (counts > 0)).all()
    stored = store(frequencies)
    found, taken = restore(stored + b"more", 5)
    assert (found == frequencies).all() and taken == len(stored)
