"""The matrix that methods fit: entries near 1, rows scaled by their weights; and the way back."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lpcompress.errors import UnsuitableError
from lpcompress.factor.scaling import excess_of, halves, largest_of, times_power
from lpcompress.formats.base import Factorization
from lpcompress.formats.packing import CHUNK

LIGHTEST = 1e-8  # least row weight as a share of the largest, so that no row's codes are arbitrary


@dataclass(frozen=True)
class Scale:
    """By what a matrix was multiplied before it was fitted.

    Attributes
    ----------
    lengths : Tensor of shape (n,) or None
        Of each row: (w / max w)^(1/p), with the row's weight w.
    exponent : int
        The matrix was divided by 2^exponent; 0 for matrices of ordinary size.
    """

    lengths: Tensor | None
    exponent: int

    @classmethod
    def chosen(cls, matrix: Tensor, row_weights: Tensor | None = None, p: float = 2.0) -> "Scale":
        """Return the scale of a matrix whose rows have weights, for errors in the l_p norm."""
        lengths = None
        if row_weights is not None:
            shares = row_weights.to(matrix.device, torch.float64) / float(row_weights.max())
            lengths = shares.clamp_min(LIGHTEST).pow(1 / p).to(torch.promote_types(matrix.dtype, torch.float32))
        return cls(lengths, excess_of(matrix))

    def of(self, matrix: Tensor) -> Tensor:
        """Return a matrix in float32 or better, divided by the power of two, its rows multiplied by `lengths`."""
        work = times_power(matrix.detach().to(torch.promote_types(matrix.dtype, torch.float32)), -self.exponent)
        return work if self.lengths is None else work * self.lengths.unsqueeze(1)

    def parts(self, matrix: Tensor) -> Iterator[Tensor]:
        """Yield what `of` returns, some rows at a time."""
        for start in range(0, len(matrix), CHUNK):
            where = slice(start, start + CHUNK)
            yield replace(self, lengths=None if self.lengths is None else self.lengths[where]).of(matrix[where])

    def undo(self, fitted: Factorization, dtype: torch.dtype) -> Factorization:
        """Return the factorization of the original matrix in `dtype`, given one of the prepared matrix.

        Codes take the power of two. A code is as large as its row is long, which may be beyond what `dtype` holds even
        if every entry is within it; the basis then takes half of the power.

        Raises
        ------
        UnsuitableError
            If a stored number is not finite in `dtype`.
        """
        fitted = fitted.to(torch.promote_types(dtype, torch.float32))  # float32 may not hold a float64 matrix's scale
        if self.lengths is not None:
            fitted = fitted.scale_rows(1 / self.lengths)
        shared = self._shared(fitted, dtype)
        if shared and fitted.directions:
            changed: dict[str, Any] = {fitted.directions: getattr(fitted, fitted.directions) * 2.0**shared}
            fitted = replace(fitted, **changed)
        if self.exponent != shared:
            like = next(iter(_numbers(fitted).values()))
            for factor in halves(self.exponent - shared):
                fitted = fitted.scale_rows(like.new_full(fitted.shape[:1], factor))
        restored = fitted.to(dtype)
        if not all(math.isfinite(largest_of(each)) for each in _numbers(restored).values()):
            raise beyond(dtype)
        return restored

    def _shared(self, fitted: Factorization, dtype: torch.dtype) -> int:
        """Return the exponent of the power of two that the basis takes: 0 if `dtype` holds the codes well."""
        numbers, limits = _numbers(fitted), torch.finfo(dtype)
        basis = numbers.pop(fitted.directions or "", None)
        mantissa, exponent = math.frexp(max(map(largest_of, numbers.values()), default=0.0))
        exponent += self.exponent
        lowest, highest = (math.frexp(limit)[1] for limit in (limits.smallest_normal / limits.eps, limits.max))
        well_held = lowest <= exponent < highest
        return 0 if basis is None or mantissa == 0 or well_held else exponent // 2


def prepare(matrix: Tensor, row_weights: Tensor | None = None, p: float = 2.0) -> tuple[Tensor, Scale]:
    """Return a finite matrix in float32 or better, near 1 and with rows scaled by their weights, and the scale.

    Row weights are applied by scaling rows by w^(1/p), which leaves each row in its subspace. Very large and very small
    matrices are divided by a power of two, because methods sum squares. Others are not copied.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    row_weights : Tensor of shape (n,), optional
    p : float, default=2.0

    Examples
    --------
    >>> from lpcompress.formats.low_rank import LowRank
    >>> matrix, scale = prepare(torch.full((2, 3), 1e30))
    >>> matrix[0], scale.exponent
    (tensor([0.7889, 0.7889, 0.7889]), 100)
    >>> scale.undo(LowRank(left=matrix[:, :1], right=torch.ones(1, 3)), torch.float32).dense()[0]
    tensor([1.0000e+30, 1.0000e+30, 1.0000e+30])
    """
    scale = Scale.chosen(matrix, row_weights, p)
    return scale.of(matrix), scale


def beyond(dtype: torch.dtype) -> UnsuitableError:
    """Return the error for a factorization with numbers, stored or multiplied out, beyond the range of its dtype."""
    return UnsuitableError(
        f"its factorization has entries beyond {torch.finfo(dtype).max:g}, the largest that {dtype} can hold. Convert"
        " the model to bfloat16 or float32."
    )


def _numbers(fitted: Factorization) -> dict[str, Tensor]:
    """Return the stored floating-point tensors by field name."""
    return {name: tensor for name, tensor in fitted.tensors().items() if tensor.is_floating_point()}
