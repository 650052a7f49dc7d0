"""Argument checks of `factorize`: the method's name, the matrix and the row weights."""

from typing import Any

import torch
from torch import Tensor

from lpcompress.errors import LpCompressError
from lpcompress.methods import AUTO, METHODS


def refuse_method(method: Any) -> None:
    """Raise LpCompressError unless `method` fits matrices, or is "auto"."""
    known = [name for name, row in METHODS.items() if row.fit]
    if method not in (*known, AUTO):
        raise LpCompressError(f"method must be one of {', '.join(known)} or {AUTO}. Got {method!r}.")


def refuse_matrix(matrix: Any) -> None:
    """Raise LpCompressError unless `matrix` is a dense, finite, non-empty floating-point matrix."""
    if not isinstance(matrix, Tensor):
        raise LpCompressError(f"matrix must be a torch.Tensor. Got a {type(matrix).__name__}.")
    stored = matrix.layout == torch.strided and not matrix.is_meta
    if not (stored and matrix.dim() == 2 and matrix.numel() > 0 and matrix.is_floating_point()):
        raise LpCompressError(
            "matrix must be two-dimensional, floating-point, not empty, dense and not on the meta device. "
            f"Got shape {tuple(matrix.shape)}, {matrix.dtype}, {matrix.layout} on {matrix.device}."
        )
    if not bool(torch.isfinite(torch.stack(torch.aminmax(matrix))).all()):  # one pass; propagates NaN
        raise LpCompressError("the matrix has entries that are not finite (NaN or infinity); it cannot be factored.")


def refuse_row_weights(row_weights: Any, matrix: Tensor) -> None:
    """Raise LpCompressError unless `row_weights` is None or has one valid weight for each row of `matrix`."""
    if row_weights is None:
        return
    if not isinstance(row_weights, Tensor):
        raise LpCompressError(f"row_weights must be a torch.Tensor or None. Got a {type(row_weights).__name__}.")
    if row_weights.shape != matrix.shape[:1]:
        raise LpCompressError(
            f"row_weights must have one entry for each of the {matrix.shape[0]} rows."
            f" Got shape {tuple(row_weights.shape)}."
        )
    if not bool((torch.isfinite(row_weights) & (row_weights >= 0)).all()):
        raise LpCompressError("row_weights must be finite and not negative.")
    if float(row_weights.max()) == 0:
        raise LpCompressError("row_weights must not all be zero.")
