"""Compress a model in memory: choose the layers, factor each, put the factors in their place."""

import hashlib
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from lpcompress import hf_quantizer, offloading, surgery
from lpcompress.assignment import Task, assign
from lpcompress.errors import BudgetError, LpCompressError, NeedsTrainingWarning, UnsuitableError
from lpcompress.factor import Factorization, factorize
from lpcompress.factor.methods import Choice, choose
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Settings
from lpcompress.factor.signs import LARGEST_SEED
from lpcompress.factor.sketch import largest_sketch, nearest_sketch
from lpcompress.factor.whitening import Whitener
from lpcompress.layers import bytes_beside, count_parameters, matrix_of, row_of_zeros, stored
from lpcompress.nn import from_factorization, sketchable_matrix, window_of

LEAST_SQUARES = ("svd", "sketch")  # methods to which p means nothing
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class LayerRecord:
    """What was done to one layer: an entry of `layers` in the report.

    `removed` is the share of bytes; errors are relative, `error_weighted` with each row's square multiplied by
    its row weight, `error_calibrated` that of products with the layer's inputs (None without calibration); `svd_*` are
    those of plain SVD (all rows alike) at the same size, None where not even rank 1 fits; `candidates` are the errors
    that `auto` compared.
    """

    name: str
    kind: str
    shape: list[int]
    method: str
    p: float
    clusters: int
    ranks: list[int]
    rows: list[int]
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    removed: float
    row_weights: str
    error_fro: float
    error_p: float
    error_weighted: float
    svd_error_fro: float | None
    svd_error_weighted: float | None
    candidates: dict[str, float]
    seconds: float
    error_calibrated: float | None = None


@dataclass(frozen=True)
class CompressionReport:
    """What was done to a model. Parameters are stored floating-point numbers, tied ones counted once.

    `skipped` are layers that only a word asked for and that nothing smaller can hold, and why;
    `warnings` are what to know before use.
    """

    layers: list[LayerRecord]
    parameters_before: int
    parameters_after: int
    seed: int
    seconds: float
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def compress(
    model: PreTrainedModel,
    *,
    ratio: float | None = None,
    target_size: float | None = None,
    max_bytes: int | None = None,
    allocation: Mapping[str, Any] | None = None,
    calibration: str | Iterable[str] | None = None,
    data: str = "hub",
    p: float = 2.0,
    method: str = "auto",
    clusters: int | None = None,
    row_weights: str = "zipf",
    exponent: float | None = None,
    layers: Iterable[str] = ("embedding",),
    tokenizer: Any | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> CompressionReport:
    """Replace layers of `model` by factored ones, in place; `model.save_pretrained` then writes the format.

    No layer is changed before all are fitted: an error leaves the model as it was.

    Parameters
    ----------
    model : PreTrainedModel
    ratio : float, optional
        Share of each layer's stored bytes that is removed, in (0, 1); 0.28 if no size is given.
    target_size : float, optional
        Instead: size of the whole model, as a share of its stored bytes. Layers share it so that least is lost; one
        that cannot be smaller at that price stays as it is.
    max_bytes : int, optional
        Instead: the same in bytes.
    allocation : mapping, optional
        Instead: layer name -> {"method": ..., "ratio": ...}, as a plan records it.
    calibration : str or iterable of str, optional
        Unlabelled text (a file, `glue:TASK`, or texts): tokens are counted, all other layers minimise the error
        of their outputs, and a budget is shared by how much the model's output depends on each layer.
    data : str, default="hub"
        Where GLUE is, for `glue:TASK`: the Hub or a directory.
    p : float, default=2.0
        Entrywise norm of the fit, in [1, 2].
    method : str, default="auto"
        See `factor.factorize`; or `sketch`, for linear layers and convolutions that will be trained.
    clusters : int, optional
    row_weights : str, default="zipf"
        `zipf` (from the tokenizer alone), `uniform`, or a file of token counts.
    exponent : float, optional
        Power of a token's share of text that is its row's weight; by default it follows from the size.
    layers : iterable of str, default=("embedding",)
        Words (`embedding`, `linear`, `attention`, `ffn`, `conv`, `all`) or shell wildcards over module names.
    tokenizer : PreTrainedTokenizerBase, optional
        Gives the row prior; by default it is looked up beside the checkpoint that the model came from.
    seed : int, default=0
    device : str, optional
        Where to factor; by default where the layer is.
    progress : callable (description, done, total), optional

    Raises
    ------
    LpCompressError
        If a layer cannot be found or replaced, or the size cannot be reached.

    Warns
    -----
    NeedsTrainingWarning
        After `sketch`.
    """
    began, settings = time.perf_counter(), Settings(p, clusters, seed)
    tell = progress or (lambda description, done, total: None)
    patterns = tuple(layers)
    found = surgery.find_layers(model, patterns)
    assigned = assign(
        model,
        found,
        ratio=ratio,
        target_size=target_size,
        max_bytes=max_bytes,
        allocation=allocation,
        calibration=calibration,
        data=data,
        method=method,
        settings=settings,
        row_weights=row_weights,
        exponent=exponent,
        tokenizer=tokenizer,
        tell=tell,
    )
    skipped = dict.fromkeys(assigned.dense, "the size of the model leaves it as it is.")
    settled = not (target_size is None and max_bytes is None and allocation is None)  # no layer may be larger
    before, replacements, records = count_parameters(model), {}, []
    for done, (name, task) in enumerate(assigned.tasks.items()):

        def say(doing: str, name: str = name, done: int = done) -> None:
            tell(f"{name}: {doing}", done, len(assigned.tasks))

        try:
            with surgery.lend_layer(model, name) as module:
                record, replacement = replace_layer(name, module, task, settings, device, say)
                if offloading.is_offloaded(surgery.owner_of(model, name)):
                    offloading.offload(replacement, replacement.state_dict())
        except UnsuitableError as error:
            if settled or surgery.is_named(name, patterns) or len(skipped) == len(found) - 1:
                raise
            skipped[name] = str(error)
            continue
        records.append(record)
        replacements[name] = (replacement, {"method": record.method, "p": record.p, "row_weights": record.row_weights})
    hf_quantizer.install(model, replacements)
    tell("done", len(found), len(found))
    cautions = warnings_of(records)
    for caution in cautions:
        warnings.warn(caution, NeedsTrainingWarning, stacklevel=2)
    after, seconds = count_parameters(model), time.perf_counter() - began
    return CompressionReport(records, before, after, seed, seconds, skipped, cautions)


@dataclass(frozen=True)
class Preview:
    """What `compress` would do.

    Attributes
    ----------
    layers : list of dict
        One a layer that changes, with `method`, `bytes_before`, `bytes_budget` and more.
    plan : dict
        Options that make `compress` do it again; with a size of the model, every layer's method and ratio.
    """

    layers: list[dict[str, Any]]
    plan: dict[str, Any]


def preview(
    model: PreTrainedModel,
    *,
    layers: Iterable[str] = ("embedding",),
    tokenizer: Any | None = None,
    progress: Progress | None = None,
    data: str = "hub",
    **options: Any,
) -> Preview:
    """Say which layers `compress` would replace and what the asked size leaves for each; fits nothing.

    Takes the options of `compress`.
    """
    patterns = tuple(layers)
    found = surgery.find_layers(model, patterns)
    fit = {key: options.pop(key) for key in ("p", "clusters", "seed") if key in options}
    assigned = assign(
        model,
        found,
        settings=Settings(**fit),
        tokenizer=tokenizer,
        data=data,
        tell=progress or (lambda description, done, total: None),
        **options,
    )
    rows = []
    for name, task in assigned.tasks.items():
        matrix, (_, before) = matrix_of(found[name]), stored(found[name])
        n, d = matrix.shape
        budget = int((1 - task.share.ratio) * before)
        rows.append(
            {
                "name": name,
                "shape": [n, d],
                "method": task.share.method,
                "bytes_before": before,
                "bytes_budget": budget,
                "expected_error": None if task.share.loss is None else task.share.loss**0.5,
                "svd_rank": max(0, budget - bytes_beside(found[name])) // (matrix.element_size() * (n + d)),
                "row_weights": task.weights.source,
            }
        )
    plan = {"layers": patterns} | fit | options
    if assigned.allocation():
        plan |= {"allocation": assigned.allocation(), "exponent": assigned.exponent}
        plan |= dict.fromkeys(("ratio", "target_size", "max_bytes"))
    return Preview(rows, plan)


def replace_layer(
    name: str,
    module: nn.Module,
    task: Task,
    settings: Settings,
    device: str | None,
    progress: Callable[[str], None],
) -> tuple[LayerRecord, nn.Module]:
    """Factor one layer; return the record and the module for its place.

    What is stored beside the factors counts in the size: the factors get what it leaves. An embedding's padding row
    is taken out of the fit too.
    """
    began, padding = time.perf_counter(), getattr(module, "padding_idx", None)
    matrix = matrix_of(module)
    matrix = matrix.to(device or matrix.device)
    n, d = matrix.shape
    row_weights, before, ratio = task.weights.values, stored(module), task.share.ratio
    whitener = None if task.moment is None else Whitener.of(task.moment.to(matrix.device))
    if not 0 < ratio < 1:
        raise LpCompressError(f"ratio is the share of bytes removed and must be between 0 and 1. Got {ratio}.")
    beside = bytes_beside(module)
    left = (1 - ratio) * before[1] - beside
    share = 1 - left / (matrix.numel() * matrix.element_size())  # of the matrix' bytes that the factors must save
    if share >= 1:
        raise BudgetError(f"{name}: {beside / before[1]:.2%} of its bytes are not factored. Ask for a smaller ratio.")
    with row_of_zeros(matrix, padding):
        try:
            choice = fit(name, module, matrix, task.share.method, share, settings, row_weights, progress, whitener)
        except LpCompressError as error:
            raise type(error)(f"{name}: {error}") from None
        fitted = choice.factorization
        errors = errors_of(matrix, fitted, settings.p, row_weights)
        calibrated = None
        if whitener:
            calibrated = relative_error(whitener(matrix.float()), whitener(fitted.dense().float()))
        svd_errors: tuple[float, float, float] | None = None
        if choice.method == "svd" and row_weights is None and whitener is None:
            svd_errors = errors  # it is what would be compared with
        else:
            progress("fitting SVD for comparison")
            with suppress(LpCompressError):
                svd_errors = errors_of(matrix, factorize(matrix, "svd", share), settings.p, row_weights)
    replacement = from_factorization(fitted, like=module)
    after = stored(replacement)
    record = LayerRecord(
        name=name,
        kind=replacement.role,
        shape=[n, d],
        method=choice.method,
        p=2.0 if choice.method in LEAST_SQUARES else settings.p,
        clusters=len(fitted.ranks),
        ranks=fitted.ranks,
        rows=fitted.rows,
        parameters_before=before[0],
        parameters_after=after[0],
        bytes_before=before[1],
        bytes_after=after[1],
        removed=1 - after[1] / before[1],
        row_weights=task.weights.source,
        error_fro=errors[0],
        error_p=errors[1],
        error_weighted=errors[2],
        svd_error_fro=svd_errors and svd_errors[0],
        svd_error_weighted=svd_errors and svd_errors[2],
        candidates=choice.errors,
        seconds=time.perf_counter() - began,
        error_calibrated=calibrated,
    )
    return record, replacement


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
    """Fit `matrix` of the layer called `name`, so that `share` of its bytes is saved.

    A sketch is no method of `choose`: it is bound to a kind of layer, and to be trained. Its signs follow from the
    seed and the name, so that every layer has its own, whichever others are asked for.
    """
    if method != "sketch":
        return choose(matrix, method, share, settings, row_weights, progress, whitener)
    sketchable_matrix(module)
    progress("sketching")
    window, n_bytes = window_of(module), int((1 - share) * matrix.numel() * matrix.element_size())
    digest = hashlib.sha256(f"{settings.seed} {name}".encode()).digest()
    seed = int.from_bytes(digest[:5]) % LARGEST_SEED
    return Choice(method, nearest_sketch(matrix, largest_sketch(matrix, n_bytes, 1, window), 1, seed, window), {})


def warnings_of(records: list[LayerRecord]) -> list[str]:
    """Return what people must know before they use the result."""
    errors = [record.error_fro for record in records if record.method == "sketch"]
    if not errors:
        return []
    return [
        f"the {len(errors)} sketched layers are a start for training, and no good before: they are off by"
        f" {min(errors):.2f} to {max(errors):.2f} of the dense weights' norm. Train the model, with lpcompress finetune"
        " for example."
    ]


def errors_of(
    matrix: Tensor, fitted: Factorization, p: float, row_weights: Tensor | None
) -> tuple[float, float, float]:
    """Return the relative Frobenius, entrywise l_p and row-weighted errors."""
    dense = fitted.dense()
    return (
        relative_error(matrix, dense),
        relative_error(matrix, dense, p),
        relative_error(matrix, dense, 2.0, row_weights),
    )
