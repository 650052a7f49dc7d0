"""The generator against its published outputs and against Python integers."""

import hashlib

import pytest
import torch

from lpcompress.errors import LpCompressError
from lpcompress.formats.signs import LARGEST_SEED, STREAM, sign_matrix, splitmix64


def outputs(seed, start, count):
    """splitmix64 in Python integers, after Vigna's C code."""
    words = []
    for i in range(start + 1, start + count + 1):
        z = (seed + i * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        words.append(z ^ (z >> 31))
    return words


def test_published_outputs():
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [word % 2**64 for word in splitmix64(1234567, 0, 5).tolist()] == published


@pytest.mark.parametrize(("seed", "start"), [(0, 0), (LARGEST_SEED, 7), (3, STREAM + 1)])
def test_against_python_integers(seed, start):
    assert [word % 2**64 for word in splitmix64(seed, start, 50).tolist()] == outputs(seed, start, 50)


def test_the_bits_never_change():
    signs = sign_matrix(40, 100, 2024, 1, torch.empty(0))
    assert "".join("-" if sign < 0 else "+" for sign in signs[0, :32]) == "++----+-+--++----++-----+--++---"
    assert (
        hashlib.sha256(bytes((signs < 0).flatten().tolist())).hexdigest()
        == "ebb7eee70465ce7cfd1223adafdcc53d9adb49d476ff9a26a51b0b11362d9a55"
    )
    words = outputs(2024, STREAM, 63)  # 4000 bits, lowest first
    expected = [1 - 2 * (words[i // 64] >> i % 64 & 1) for i in range(4000)]
    assert signs.flatten().tolist() == expected
    assert torch.equal(sign_matrix(40, 100, 2024, 1, torch.empty(0, dtype=torch.float64)), signs.double())


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
def test_an_accelerator_draws_the_same_bits():
    like = torch.empty(0, device=torch.accelerator.current_accelerator())
    assert torch.equal(sign_matrix(40, 100, 2024, 1, like).cpu(), sign_matrix(40, 100, 2024, 1, torch.empty(0)))


def test_signs_are_independent():
    streams = [sign_matrix(64, 4096, seed, stream, torch.empty(0)) for seed in (0, 1) for stream in (0, 1)]
    rows = torch.cat(streams)  # (256, 4096)
    correlations = rows @ rows.T / 4096 - torch.eye(256)
    assert correlations.abs().max() < 6 / 64  # six standard errors
    assert rows.mean().abs() < 6 / 1024


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, 1.5, True])
def test_seeds_out_of_range(seed):
    with pytest.raises(LpCompressError, match=r"seed must be an integer from 0 to 1099511627776\. Got"):
        splitmix64(seed, 0, 1)
