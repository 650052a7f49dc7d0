"""Multiplication by powers of two, which is exact: it keeps squares and sums within the range of a dtype."""

import math

from torch import Tensor

ORDINARY = 16
"""Tensors whose largest magnitude is between 2^-17 and 2^16 are left as they are: nothing overflows, and no copy is
made."""


def excess_of(tensor: Tensor) -> int:
    """Return e such that the largest magnitude in a tensor is between 2^(e-1) and 2^e; 0 if it is of ordinary size.

    Examples
    --------
    >>> import torch
    >>> excess_of(torch.tensor([1e30, -3.0])), excess_of(torch.tensor([0.02, -3.0])), excess_of(torch.zeros(2))
    (100, 0, 0)
    """
    exponent = math.frexp(largest_of(tensor))[1]
    return exponent if abs(exponent) > ORDINARY else 0


def largest_of(tensor: Tensor) -> float:
    """Return the largest magnitude in a tensor, 0 if it is empty; no copy of the tensor is made."""
    return max(abs(float(bound)) for bound in tensor.detach().aminmax()) if tensor.numel() else 0.0


def halves(exponent: int) -> tuple[float, float]:
    """Return two factors whose product is 2^exponent, which may itself be out of range."""
    return 2.0 ** (exponent // 2), 2.0 ** (exponent - exponent // 2)


def times_power(tensor: Tensor, exponent: int) -> Tensor:
    """Return `tensor` times 2^exponent; the tensor itself if the exponent is 0.

    Examples
    --------
    >>> import torch
    >>> times_power(torch.tensor([1e30, -3.0]), -100)
    tensor([ 7.8886e-01, -2.3666e-30])
    """
    if exponent == 0:
        return tensor
    first, second = halves(exponent)
    return tensor * first * second
