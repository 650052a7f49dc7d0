"""Fit one layer: its factors, the module that holds them, and the record for the report."""

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lpcompress.compression.measure import Baseline, Errors, Measure
from lpcompress.compression.records import LayerRecord, Task
from lpcompress.errors import BudgetError, LpCompressError
from lpcompress.factor.choice import Choice, choose
from lpcompress.factor.methods.coded import at_delta
from lpcompress.factor.preparation import beyond
from lpcompress.factor.problem import Settings, refuse_ratio
from lpcompress.factor.whitening import Whitener
from lpcompress.methods import METHODS, resolve
from lpcompress.nn import ResidentMatrix, from_factorization
from lpcompress.nn.residence import DEFAULT, DENSE
from lpcompress.progress import Progress
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.sizes import stored

FITTED = 0.85  # share of the work on a layer that its fit takes, as a rule; the rest is comparing with SVD


@dataclass(frozen=True)
class Replacement:
    """The compressed module that replaces a layer, and its record for the report."""

    record: LayerRecord
    module: ResidentMatrix

    @property
    def provenance(self) -> dict[str, Any]:
        """Method, p and row weights, as written to `config.json`."""
        return {"method": self.record.method, "p": self.record.p, "row_weights": self.record.row_weights}

    def record_in_model(self) -> LayerRecord:
        """Return the record once the module is in its model, where a head may have been tied to it."""
        if self.module.way(DEFAULT) != DENSE:
            return self.record
        return replace(self.record, bytes_in_memory=self.module.bytes_in_memory(DEFAULT))


def fit_layer(
    layer: Layer,
    task: Task,
    settings: Settings,
    device: str | torch.device | None,
    progress: Progress,
    compare: bool = True,
) -> Replacement:
    """Fit the factors of one layer, without changing the model.

    Tensors stored besides the factors count towards the size; the factors get the rest. The padding row of an embedding
    is stored separately and is zero in the fit.

    Parameters
    ----------
    layer : Layer
        A plain layer; its tensors may be kept on disk.
    task : Task
    settings : Settings
    device : str, torch.device or None
        Where to fit; None means the layer's device.
    progress : Progress
        Told a few words about each step, and the share of the layer that is done.
    compare : bool, default=True
        Whether to also fit plain SVD at the same size and record its errors. Without it `svd_error_*` are None.

    Returns
    -------
    Replacement

    Raises
    ------
    LpCompressError
        If the layer cannot be fitted; the message starts with its name.
    """
    began = time.perf_counter()
    with layer.lend():
        matrix = layer.matrix_to_fit(device)
    delta = task.share.delta
    share = share_of_matrix(layer, task.share.ratio) if delta is None else 0.0
    moment = None if task.moment is None else task.moment.to(matrix.device)
    whitener = None if moment is None else Whitener.of(moment)
    measure = Measure(settings.p, task.weights.values, None if layer.role == "embedding" else moment)
    try:
        if delta is None:
            fitting = progress.within(0, FITTED)
            choice = fit_matrix(
                layer, matrix, task.share.method, share, settings, measure.row_weights, whitener, fitting
            )
        else:
            told = progress.within(0, FITTED).about(f"fitting {task.share.method}")
            coded = at_delta(matrix, delta, whitener, measure.row_weights, replace(settings, told=told))
            choice = Choice(task.share.method, coded, {})
            share = 1 - coded.n_bytes / (matrix.numel() * matrix.element_size())
        errors = measure.errors(matrix, choice.factorization.dense_parts())
        if not errors.finite:
            raise beyond(matrix.dtype)
    except LpCompressError as error:
        raise type(error)(f"{layer.name}: {error}") from None
    if choice.method == "svd" and measure.row_weights is None and whitener is None:
        baseline = Baseline(errors)  # the fit is plain SVD itself
    elif compare:
        told = progress.within(FITTED, 1).about("fitting SVD for comparison")
        baseline = measure.of_svd(matrix, share, told)
    else:
        baseline = Baseline()
    del matrix  # makes room for the module
    with layer.lend():
        module = from_factorization(choice.factorization, like=layer.module)
    record = record_of(layer, task, settings, module, choice, errors, baseline, time.perf_counter() - began)
    return Replacement(record, module)


def share_of_matrix(layer: Layer, ratio: float) -> float:
    """Return the share of the matrix's bytes to remove so that the whole layer loses the share `ratio`.

    The two differ because a bias or a padding row is stored unchanged.

    Raises
    ------
    LpCompressError
        If `ratio` is not between 0 and 1.
    BudgetError
        If the bias or padding row leaves no bytes for the factors.
    """
    refuse_ratio(ratio)
    (_, before), beside, matrix = layer.stored(), layer.bytes_beside(), layer.matrix()
    left = (1 - ratio) * before - beside
    if left <= 0:
        raise BudgetError(
            f"{layer.name}: {beside / before:.2%} of its bytes are a bias or padding row. Ask for a smaller ratio."
        )
    return 1 - left / (matrix.numel() * matrix.element_size())


def fit_matrix(
    layer: Layer,
    matrix: Tensor,
    method: str,
    share: float,
    settings: Settings,
    row_weights: Tensor | None,
    whitener: Whitener | None,
    progress: Progress,
) -> Choice:
    """Fit the matrix of a layer with the share `share` of its bytes removed."""
    fit = METHODS[method].layer_fit if method in METHODS else ""
    if fit:
        return Choice(method, resolve(fit)(layer.name, layer.module, matrix, share, settings, progress), {})
    return choose(matrix, method, share, settings, row_weights, progress, whitener)


def record_of(
    layer: Layer,
    task: Task,
    settings: Settings,
    module: ResidentMatrix,
    choice: Choice,
    errors: Errors,
    baseline: Baseline,
    seconds: float,
) -> LayerRecord:
    """Return the report's record of `layer`, which `module` will replace."""
    before, after, fitted, svd = layer.stored(), stored(module), choice.factorization, baseline.errors
    return LayerRecord(
        name=layer.name,
        kind=module.word,
        shape=list(fitted.shape),
        method=choice.method,
        p=settings.p if METHODS[choice.method].honours_p else 2.0,
        clusters=len(fitted.ranks),
        ranks=fitted.ranks,
        rows=fitted.rows,
        parameters_before=before[0],
        parameters_after=after[0],
        bytes_before=before[1],
        bytes_after=after[1],
        bytes_in_memory=module.bytes_in_memory(DEFAULT),
        removed=1 - after[1] / before[1],
        row_weights=task.weights.source,
        error_fro=errors.frobenius,
        error_p=errors.p,
        error_weighted=errors.weighted,
        svd_error_fro=svd.frobenius if svd else None,
        svd_error_weighted=svd.weighted if svd else None,
        candidates=choice.errors,
        seconds=seconds,
        error_calibrated=errors.calibrated,
        svd_error_calibrated=svd.calibrated if svd else None,
        energy=baseline.energy,
    )
