"""Argument checks of `factorize`: the method's name, the matrix and the row weights."""

from typing import Any

import torch
from torch import Tensor

from lpcompress.errors import LpCompressError
from lpcompress.methods import AUTO, METHODS

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def refuse_method(method: Any) -> None:
    """Raise LpCompressError unless `method` fits matrices, or is "auto"."""
    known = [name for name, row in METHODS.items() if row.fit]
    if method not in (*known, AUTO):
        raise LpCompressError(f"method must be one of {', '.join(known)} or {AUTO}. Got {method!r}.")


def refuse_matrix(matrix: Any) -> None:
    """Raise LpCompressError unless `matrix` is a dense, finite, non-empty floating-point matrix."""
    if not isinstance(matrix, Tensor):
        raise LpCompressError(f"matrix must be a torch.Tensor. Got a {type(matrix).__name__}.")
    if not (matrix.dim() == 2 and matrix.numel() > 0 and matrix.dtype in DTYPES and _is_stored(matrix)):
        raise LpCompressError(
            "matrix must be two-dimensional, 16- to 64-bit floating-point, not empty, dense and not on the meta device."
            f" Got shape {tuple(matrix.shape)}, {matrix.dtype}, {matrix.layout} on {matrix.device}."
        )
    if not bool(torch.isfinite(torch.stack(torch.aminmax(matrix))).all()):  # one pass; propagates NaN
        raise LpCompressError("the matrix has entries that are not finite (NaN or infinity); it cannot be factored.")


def checked_row_weights(row_weights: Any, matrix: Tensor) -> Tensor | None:
    """Return `row_weights` in float64, or None if there are none.

    Raises
    ------
    LpCompressError
        Unless there is one valid weight for each row of `matrix`.
    """
    if row_weights is None:
        return None
    if not isinstance(row_weights, Tensor):
        raise LpCompressError(f"row_weights must be a torch.Tensor or None. Got a {type(row_weights).__name__}.")
    if row_weights.shape != matrix.shape[:1]:
        raise LpCompressError(
            f"row_weights must have one entry for each of the {matrix.shape[0]} rows."
            f" Got shape {tuple(row_weights.shape)}."
        )
    if row_weights.is_complex() or row_weights.is_quantized or not _is_stored(row_weights):
        raise LpCompressError(
            f"row_weights must be real numbers, dense and not on the meta device. Got {row_weights.dtype},"
            f" {row_weights.layout} on {row_weights.device}."
        )
    weights = row_weights.detach().to(torch.float64)
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise LpCompressError("row_weights must be finite and not negative.")
    if float(weights.max()) == 0:
        raise LpCompressError("row_weights must not all be zero.")
    return weights


def _is_stored(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta
