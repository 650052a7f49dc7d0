"""The least error of Gaussian rows: against closed forms, and below what the coder reaches."""

import pytest
import torch

from lpcompress import factorize
from lpcompress.factor.bound import least_errors
from lpcompress.factor.norms import relative_error


def gaussian(rows, deviations, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, len(deviations), generator=generator) * torch.tensor(deviations)


def equal_lengths(matrix):
    return matrix / matrix.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("bits", [1, 2, 6])
def test_a_bit_a_number_halves_the_error_of_white_rows(bits):
    matrix = equal_lengths(gaussian(20_000, [1.0] * 16))
    assert least_errors(matrix, [matrix.numel() * bits / 8]) == pytest.approx([2.0**-bits], rel=2e-3)


@pytest.mark.parametrize(("bits", "squared"), [(0, 65), (6, 9), (12, 2), (20, 0.5)])
def test_weak_axes_get_no_bits_before_the_others_are_down_to_them(bits, squared):
    strong, weak = (equal_lengths(gaussian(20_000, [1.0] * 4, seed)) for seed in (0, 1))
    rows = torch.cat([8 * strong, weak], dim=1)  # four axes of energy 16, four of energy 1/4
    assert least_errors(rows, [20_000 * bits / 8]) == pytest.approx([(squared / 65) ** 0.5], rel=0.01)


def test_more_bytes_never_raise_it_and_weights_and_scale_are_followed():
    matrix = gaussian(500, [8.0, 4.0, 2.0, 1.0])
    sizes = [10.0, 100.0, 1000.0, 4000.0]
    errors = least_errors(matrix, sizes)
    assert errors == sorted(errors, reverse=True)
    assert least_errors(matrix * 1e-20, sizes) == pytest.approx(errors, rel=1e-4)
    weights = torch.zeros(500, dtype=torch.float64)
    weights[:5] = 1.0
    assert least_errors(matrix, sizes, weights)[1] < errors[1] / 4  # all bits go to five rows
    assert least_errors(torch.zeros(5, 3), sizes) == [0.0] * 4


@pytest.mark.parametrize("ratio", [0.8, 0.95])
def test_the_coder_stays_above_it(ratio):
    matrix = gaussian(2000, [2.0 ** (-i / 3) for i in range(24)])
    coded = factorize(matrix, "coded", ratio=ratio)
    (least,) = least_errors(matrix, [coded.n_bytes])
    assert least < relative_error(matrix, coded.dense()) < 3 * least + 0.05
