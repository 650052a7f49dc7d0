"""Packing bits and levels into bytes, and unpacking them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpcompress.formats import packing
from lpcompress.formats.packing import index_dtype, pack_bits, unpack_bits, unpack_levels


def pack_levels(levels, bits):
    """Pack levels (rows, columns) into bytes (rows, ceil(columns * bits / 8)), as old checkpoints hold them."""
    count = 8 // bits
    codes = (levels - 0.5 + 2 ** (bits - 1)).to(torch.uint8)
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % count)).unflatten(-1, (-1, count))
    weights = (2 ** (bits * torch.arange(count, device=codes.device))).to(torch.uint8)
    return (padded * weights).sum(-1, dtype=torch.uint8)


@given(rows=st.integers(1, 20), columns=st.integers(1, 70), seed=st.integers(0, 99))
def test_bits_survive_packing(rows, columns, seed):
    bits = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.4
    assert torch.equal(unpack_bits(pack_bits(bits))[:, :columns], bits)


@given(columns=st.integers(1, 40), bits=st.sampled_from([1, 2, 4, 8]), seed=st.integers(0, 99))
def test_levels_survive_packing(columns, bits, seed):
    drawn = torch.randint(2**bits, (5, columns), generator=torch.Generator().manual_seed(seed))
    levels = drawn + 0.5 - 2 ** (bits - 1)
    packed = pack_levels(levels, bits)
    assert packed.shape == (5, -(-columns * bits // 8))
    assert torch.equal(unpack_levels(packed, bits, torch.float32)[:, :columns], levels)


def test_tables_are_copied_to_a_device_once():
    packed = torch.zeros(2, 3, dtype=torch.uint8, device="meta")
    with torch.inference_mode():  # tables cached here must be usable in training
        assert unpack_bits(packed).shape == (2, 24) and unpack_levels(packed, 2, torch.float32).shape == (2, 12)
    bits, levels = packing._bits_on(packed.device), packing._levels_on(2, packed.device)
    assert bits.is_meta and levels.is_meta and not bits.is_inference() and not levels.is_inference()
    assert packing._bits_on(packed.device) is bits and packing._levels_on(2, torch.device("meta")) is levels
    assert packing._levels_on(4, packed.device) is not levels


@pytest.mark.parametrize(("length", "dtype"), [(0, torch.int32), (2**31 - 1, torch.int32), (2**31, torch.int64)])
def test_an_index_is_as_short_as_its_store_allows(length, dtype):
    assert index_dtype(length) == dtype
