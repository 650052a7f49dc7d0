"""Rounding to the nearest of 2^bits equally spaced levels, in groups of 64 numbers of a row."""

from functools import partial
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from rivals.rival import Fit, Subject, coded_by

GROUP = 64
SCALE_BITS = 16  # float16


def rounded(matrix: Tensor, bits: int) -> tuple[Tensor, int]:
    """Round a matrix, and return it with the bytes of codes, scales and zero points.

    Asymmetric: a group has a scale in float16 and a zero point of `bits` bits; its levels reach from its least number
    (or 0) to its greatest (or 0).

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    bits : int

    Examples
    --------
    >>> matrix = torch.tensor([[-1.0, 0.0, 2.0]])
    >>> rounded(matrix, 2)  # levels -1, 0, 1, 2; three codes, a scale and a zero point: 6 + 16 + 2 bits
    (tensor([[-1.,  0.,  2.]]), 3)
    """
    n, d = matrix.shape
    groups = functional.pad(matrix.float(), (0, -d % GROUP)).view(n, -1, GROUP)  # zeros do not change the range
    least, greatest = groups.amin(2, keepdim=True).clamp_max(0), groups.amax(2, keepdim=True).clamp_min(0)
    top = 2**bits - 1
    scale = ((greatest - least) / top).half().float()
    scale = torch.where(scale == 0, 1.0, scale)
    zero = (-least / scale).round().clamp(0, top)
    codes = ((groups / scale).round() + zero).clamp(0, top)
    decoded = ((codes - zero) * scale).view(n, -1)[:, :d]
    return decoded.to(matrix.dtype), ceil((n * d * bits + zero.numel() * (SCALE_BITS + bits)) / 8)


def fit(bits: int, subject: Subject, share: float | None) -> Fit:
    """Round all matrices; see `Rival.fit`."""
    total = coded_by(partial(rounded, bits=bits), subject)
    return Fit(total, f"groups of {GROUP} in a row; a float16 scale and a zero point of {bits} bits each")
