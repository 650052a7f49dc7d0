"""Fitting one layer: its factors, the module that holds them, and the record of what was done."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lpcompress.compression.records import LayerRecord, Task
from lpcompress.errors import BudgetError, LpCompressError
from lpcompress.factor import Factorization, factorize
from lpcompress.factor.choice import Choice, choose
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.methods import METHODS, resolve
from lpcompress.nn import FactoredMatrix, from_factorization
from lpcompress.surgery.matrices import matrix_of, row_of_zeros
from lpcompress.surgery.sizes import bytes_beside, stored


def replace_layer(
    name: str,
    module: nn.Module,
    task: Task,
    settings: Settings,
    device: str | torch.device | None,
    progress: Callable[[str], None],
) -> tuple[LayerRecord, FactoredMatrix]:
    """Factor one layer; return the record and the module for its place.

    What is stored beside the factors counts in the size: the factors get what it leaves. An embedding's padding row
    is taken out of the fit too.
    """
    began, padding = time.perf_counter(), getattr(module, "padding_idx", None)
    matrix = matrix_of(module)
    matrix = matrix.to(device or matrix.device)
    n, d = matrix.shape
    row_weights, before = task.weights.values, stored(module)
    whitener = None if task.moment is None else Whitener.of(task.moment.to(matrix.device))
    share = share_of_matrix(name, module, task.share.ratio)
    with row_of_zeros(matrix, padding):
        try:
            choice = fit(name, module, matrix, task.share.method, share, settings, row_weights, progress, whitener)
        except LpCompressError as error:
            raise type(error)(f"{name}: {error}") from None
        fitted = choice.factorization
        errors = errors_of(matrix, fitted, settings.p, row_weights, whitener)
        svd_errors: Errors | None = None
        if choice.method == "svd" and row_weights is None and whitener is None:
            svd_errors = errors  # it is what would be compared with
        else:
            progress("fitting SVD for comparison")
            with suppress(LpCompressError):
                svd_errors = errors_of(matrix, factorize(matrix, "svd", share), settings.p, row_weights, whitener)
    replacement = from_factorization(fitted, like=module)
    after = stored(replacement)
    record = LayerRecord(
        name=name,
        kind=replacement.word,
        shape=[n, d],
        method=choice.method,
        p=settings.p if METHODS[choice.method].honours_p else 2.0,
        clusters=len(fitted.ranks),
        ranks=fitted.ranks,
        rows=fitted.rows,
        parameters_before=before[0],
        parameters_after=after[0],
        bytes_before=before[1],
        bytes_after=after[1],
        removed=1 - after[1] / before[1],
        row_weights=task.weights.source,
        error_fro=errors.frobenius,
        error_p=errors.p,
        error_weighted=errors.weighted,
        svd_error_fro=svd_errors.frobenius if svd_errors else None,
        svd_error_weighted=svd_errors.weighted if svd_errors else None,
        candidates=choice.errors,
        seconds=time.perf_counter() - began,
        error_calibrated=errors.calibrated,
        svd_error_calibrated=svd_errors.calibrated if svd_errors else None,
    )
    return record, replacement


def share_of_matrix(name: str, module: nn.Module, ratio: float) -> float:
    """Return which share of its matrix' bytes the factors must save, so that the layer loses `ratio` of its own.

    Raises
    ------
    LpCompressError
        If `ratio` is no share.
    BudgetError
        If what is stored beside the matrix leaves nothing for factors.
    """
    if not 0 < ratio < 1:
        raise LpCompressError(f"ratio is the share of bytes removed and must be between 0 and 1. Got {ratio}.")
    (_, before), beside, matrix = stored(module), bytes_beside(module), matrix_of(module)
    left = (1 - ratio) * before - beside
    if left <= 0:
        raise BudgetError(f"{name}: {beside / before:.2%} of its bytes are not factored. Ask for a smaller ratio.")
    return 1 - left / (matrix.numel() * matrix.element_size())


def fit(
    name: str,
    module: nn.Module,
    matrix: Tensor,
    method: str,
    share: float,
    settings: Settings,
    row_weights: Tensor | None,
    progress: Callable[[str], None],
    whitener: Whitener | None,
) -> Choice:
    """Fit `matrix` of the layer called `name`, so that `share` of its bytes is saved."""
    of_layers = METHODS[method].layer_fit if method in METHODS else ""
    if of_layers:
        return Choice(method, resolve(of_layers)(name, module, matrix, share, settings, progress), {})
    return choose(matrix, method, share, settings, row_weights, progress, whitener)


@dataclass(frozen=True)
class Errors:
    """Relative errors of one matrix in the place of another: see `LayerRecord`."""

    frobenius: float
    p: float
    weighted: float
    calibrated: float | None


def errors_of(
    matrix: Tensor, fitted: Factorization, p: float, row_weights: Tensor | None, whitener: Whitener | None = None
) -> Errors:
    """Return the relative errors; the factors are multiplied out once for all of them."""
    dense = fitted.dense()
    return Errors(
        frobenius=relative_error(matrix, dense),
        p=relative_error(matrix, dense, p),
        weighted=relative_error(matrix, dense, 2.0, row_weights),
        calibrated=whitener.relative_error(matrix.float(), dense.float()) if whitener else None,
    )
