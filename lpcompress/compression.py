"""Compress a model in memory: choose the layers, factor each, put the factors in their place."""

import hashlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from lpcompress import checkpoint, hf_quantizer, offloading, surgery
from lpcompress.errors import BudgetError, LpCompressError, NeedsTrainingWarning, UnsuitableError
from lpcompress.factor import Factorization, factorize
from lpcompress.factor.methods import Choice, choose
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Settings
from lpcompress.factor.signs import LARGEST_SEED
from lpcompress.factor.sketch import largest_sketch, nearest_sketch
from lpcompress.nn import from_factorization, role_of, sketchable_matrix, window_of
from lpcompress.priors import RowWeights, exponent_for
from lpcompress.priors import row_weights as resolve_row_weights

LEAST_SQUARES = ("svd", "sketch")  # methods to which p means nothing
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class LayerRecord:
    """What was done to one layer: an entry of `layers` in the report.

    `removed` is the share of bytes; errors are relative, `error_weighted` with each row's square multiplied by
    its row weight; `svd_*` are those of plain SVD (all rows alike) at the same size, None where not even
    rank 1 fits; `candidates` are the errors that `auto` compared.
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
    ratio: float = 0.28,
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
    ratio : float, default=0.28
        Share of each layer's stored bytes that is removed, in (0, 1).
    p : float, default=2.0
        Entrywise norm of the fit, in [1, 2].
    method : str, default="auto"
        See `factor.factorize`; or `sketch`, for linear layers and convolutions that will be trained.
    clusters : int, optional
    row_weights : str, default="zipf"
        `zipf` (from the tokenizer alone), `uniform`, or a file of token counts.
    exponent : float, optional
        Power of a token's share of text that is its row's weight; by default it follows from the ratio.
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
    power = exponent_for(ratio) if exponent is None else exponent
    tell = progress or (lambda description, done, total: None)
    patterns = tuple(layers)
    found = surgery.find_layers(model, patterns)
    before, replacements, records = count_parameters(model), {}, []
    skipped: dict[str, str] = {}
    for done, name in enumerate(found):

        def say(doing: str, name: str = name, done: int = done) -> None:
            tell(f"{name}: {doing}", done, len(found))

        try:
            with surgery.lend_layer(model, name) as module:
                weights = weights_of(model, module, row_weights, tokenizer, power)
                record, replacement = replace_layer(name, module, method, ratio, settings, weights, device, say)
                if offloading.is_offloaded(surgery.owner_of(model, name)):
                    offloading.offload(replacement, replacement.state_dict())
        except UnsuitableError as error:
            if surgery.is_named(name, patterns) or len(skipped) == len(found) - 1:
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


def preview(
    model: PreTrainedModel,
    *,
    ratio: float = 0.28,
    row_weights: str = "zipf",
    exponent: float | None = None,
    layers: Iterable[str] = ("embedding",),
    tokenizer: Any | None = None,
    **others: Any,
) -> list[dict[str, Any]]:
    """Say which layers `compress` would replace and what the ratio leaves for each; fits nothing.

    Takes the options of `compress`; those that do not matter here are ignored.
    """
    found = []
    power = exponent_for(ratio) if exponent is None else exponent
    for name, module in surgery.find_layers(model, layers).items():
        matrix = matrix_of(module)
        n, d = matrix.shape
        _, before = stored(module)
        budget = int((1 - ratio) * before)
        found.append(
            {
                "name": name,
                "shape": [n, d],
                "bytes_before": before,
                "bytes_budget": budget,
                "svd_rank": max(0, budget - bytes_beside(module)) // (matrix.element_size() * (n + d)),
                "row_weights": weights_of(model, module, row_weights, tokenizer, power).source,
            }
        )
    return found


def matrix_of(module: nn.Module) -> Tensor:
    """Return the weight of a plain layer as a matrix of shape (n, d), rows being tokens or outputs."""
    role = role_of(module)
    if role is None:
        raise LpCompressError(f"a {type(module).__name__} has no matrix that can be factored.")
    return role.matrix_of(module).detach()


def bytes_beside(module: nn.Module) -> int:
    """Return the bytes that are stored beside the factors: an embedding's padding row, a bias."""
    matrix = matrix_of(module)
    if getattr(module, "padding_idx", None) is not None:
        return matrix.shape[1] * matrix.element_size()
    return stored(module)[1] - matrix.numel() * matrix.element_size()


def weights_of(
    model: PreTrainedModel, module: nn.Module, wish: str, tokenizer: Any | None, exponent: float
) -> RowWeights:
    """Return the row weights of one layer: the tokenizer speaks of the word embedding alone."""
    if module is not surgery.input_embedding(model):
        return RowWeights(None, "uniform")
    if tokenizer is None and wish == "zipf":
        tokenizer = checkpoint.tokenizer_beside(model)
    return resolve_row_weights(wish, matrix_of(module).shape[0], tokenizer, exponent)


def replace_layer(
    name: str,
    module: nn.Module,
    method: str,
    ratio: float,
    settings: Settings,
    weights: RowWeights,
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
    row_weights, before = weights.values, stored(module)
    if not 0 < ratio < 1:
        raise LpCompressError(f"ratio is the share of bytes removed and must be between 0 and 1. Got {ratio}.")
    beside = bytes_beside(module)
    left = (1 - ratio) * before[1] - beside
    share = 1 - left / (matrix.numel() * matrix.element_size())  # of the matrix' bytes that the factors must save
    if share >= 1:
        raise BudgetError(f"{name}: {beside / before[1]:.2%} of its bytes are not factored. Ask for a smaller ratio.")
    with row_of_zeros(matrix, padding):
        try:
            choice = fit(name, module, matrix, method, share, settings, row_weights, progress)
        except LpCompressError as error:
            raise type(error)(f"{name}: {error}") from None
        fitted = choice.factorization
        errors = errors_of(matrix, fitted, settings.p, row_weights)
        progress("fitting SVD for comparison")
        try:
            svd_errors = errors_of(matrix, factorize(matrix, "svd", share), settings.p, row_weights)
        except LpCompressError:
            svd_errors = None
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
        row_weights=weights.source,
        error_fro=errors[0],
        error_p=errors[1],
        error_weighted=errors[2],
        svd_error_fro=svd_errors and svd_errors[0],
        svd_error_weighted=svd_errors and svd_errors[2],
        candidates=choice.errors,
        seconds=time.perf_counter() - began,
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
) -> Choice:
    """Fit `matrix` of the layer called `name`, so that `share` of its bytes is saved.

    A sketch is no method of `choose`: it is bound to a kind of layer, and to be trained. Its signs follow from the
    seed and the name, so that every layer has its own, whichever others are asked for.
    """
    if method != "sketch":
        return choose(matrix, method, share, settings, row_weights, progress)
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


@contextmanager
def row_of_zeros(matrix: Tensor, row: int | None) -> Iterator[None]:
    """Lend `matrix` out with one row blanked, instead of a copy of it."""
    if row is None:
        yield
        return
    kept = matrix[row].clone()
    matrix[row] = 0
    try:
        yield
    finally:
        matrix[row] = kept


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


def stored(module: nn.Module) -> tuple[int, int]:
    """Return the stored floating-point numbers and the stored bytes of a module."""
    tensors = list(module.state_dict().values())
    numbers = sum(t.numel() for t in tensors if t.is_floating_point())
    return numbers, sum(t.numel() * t.element_size() for t in tensors)


def count_parameters(model: nn.Module) -> int:
    """Return the floating-point numbers that a checkpoint of `model` holds, shared ones once."""
    tensors = set(model.state_dict(keep_vars=True).values())  # by identity
    return sum(t.numel() for t in tensors if t.is_floating_point())
