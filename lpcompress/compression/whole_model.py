"""Compress a model in memory: choose layers, factor each, and replace them."""

import logging
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from lpcompress.checkpoints import quantizer
from lpcompress.compression.all_layers import Job, fit_layers
from lpcompress.compression.assignment import assign
from lpcompress.compression.one_layer import Replacement
from lpcompress.compression.records import CompressionReport, LayerPreview, LayerRecord, Preview, Task
from lpcompress.config.plan import Plan
from lpcompress.errors import LpCompressError, NeedsTrainingWarning, UnsuitableError
from lpcompress.factor.problem import Settings
from lpcompress.methods import AUTO, METHODS
from lpcompress.processes import Alone, Workers, checked_device
from lpcompress.progress import Callback, Progress
from lpcompress.surgery import finding
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.sizes import bytes_in_memory, count_parameters

log = logging.getLogger(__name__)


def compress(
    model: PreTrainedModel,
    plan: Plan | None = None,
    *,
    calibration: str | Path | Iterable[str] | None = None,
    tokenizer: Any | None = None,
    data: str = "hub",
    max_shard_size: int | None = None,
    device: str | torch.device | None = None,
    workers: Workers | None = None,
    progress: Callback | None = None,
    **options: Any,
) -> CompressionReport:
    """Replace layers of `model` by factored ones, in place.

    The weight of a chosen layer is a matrix of shape (n, d), whose rows are tokens or outputs. It is replaced by
    factors that take fewer bytes. Layers are replaced only after all are fitted, so an error leaves the model
    unchanged. Save the result with `model.save_pretrained`.

    Parameters
    ----------
    model : PreTrainedModel
        A dense model, or one with other layers compressed, for example from `lpcompress.load`.
    plan : Plan, optional
        What to compress and how. By default 28 % of the bytes of the word embedding are removed.
    calibration : str, Path or iterable of str, optional
        Unlabelled text that overrides the plan's: a file, `glue:TASK`, or the texts themselves. Token counts then
        weight the rows of the word embedding, the fits of all other layers minimise the error of their outputs, and a
        model size is divided by how sensitive the model's output is to each layer.
    tokenizer : PreTrainedTokenizerBase, optional
        Tokenizer from which token frequencies are estimated, and for `calibration`. By default it is loaded from the
        checkpoint that the model came from.
    data : str, default="hub"
        Where GLUE is, for `glue:TASK`: the Hub or a directory.
    max_shard_size : int, optional
        Bytes that you will give `save_pretrained` under this name. `max_bytes` then leaves room for what every weight
        file holds besides its tensors. By default there is one file.
    device : str or torch.device, optional
        Where to factor. By default the device of `workers`, or without them that of each layer.
    workers : Workers, optional
        Processes that share the run. Each must call this function with the same model and options, and all must be able
        to access the same TMPDIR. Each layer is factored by one process; all processes get the result that a single
        process would.
    progress : callable (description, done, total), optional
        Called as work proceeds; `done` and `total` count layers or texts, or are None if unknown.
    **options
        Fields of `Plan`, which override those of `plan`:

        - ratio: share of each layer's stored bytes to remove, in (0, 1);
        - target_size: share of the whole model's bytes to keep, in (0, 1);
        - max_bytes: size of the weight files, in bytes or as text such as "40MB";
        - layers: list of keywords (embedding, linear, attention, ffn, conv, all) and wildcards over layer names;
        - method, p, clusters, row_weights, exponent, seed, allocation: see `Plan`.

    Returns
    -------
    CompressionReport
        Method, ranks, bytes and errors of each layer, and the layers that stay dense.

    Raises
    ------
    PlanError
        If an option is invalid, or options are incompatible.
    LpCompressError
        If a layer cannot be found or replaced, one of its tensors is not finite, the size cannot be reached
        (`BudgetError`), or `model` is not a model.

    Warns
    -----
    NeedsTrainingWarning
        After the method `sketch`, whose layers are unusable until trained.

    See Also
    --------
    preview : The same choices without fitting.
    lpcompress.factorize : Factor a single matrix; its References list the papers behind the methods.

    Examples
    --------
    >>> import transformers
    >>> sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 64}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=400, **sizes))
    >>> report = compress(model, ratio=0.5, method="svd", layers=["embedding", "ffn"])
    >>> for layer in report.layers:
    ...     print(f"{layer.name} {layer.shape}, rank {layer.ranks[0]}: {layer.removed:.0%} removed")
    embeddings.word_embeddings [400, 32], rank 14: 52% removed
    encoder.layer.0.intermediate.dense [64, 32], rank 10: 52% removed
    encoder.layer.0.output.dense [32, 64], rank 10: 52% removed
    """
    began, (plan, text) = time.perf_counter(), _plan_and_text(plan, calibration, options)
    settings, tell = Settings(plan.p, plan.clusters, plan.seed), Progress.of(progress)
    if not isinstance(model, nn.Module):
        raise LpCompressError(f"compress takes a model, as returned by lpcompress.load. Got {type(model).__name__}.")
    if isinstance(tokenizer, str):
        raise LpCompressError("tokenizer must be a tokenizer, as returned by lpcompress.load. Got text.")
    if device is not None:
        device = checked_device(device)
    crew = workers or Alone()
    chosen, before = finding.choose_layers(model, plan.layers), count_parameters(model)
    found = chosen.layers
    crew.main_alone(lambda: _refuse_not_finite(found))
    common: dict[str, Any] = {"data": data, "max_shard_size": max_shard_size, "workers": crew, "tell": tell}
    assigned = assign(model, found, plan, text=text, tokenizer=tokenizer, **common)
    optional = frozenset(name for name in found if not (assigned.settled or finding.is_named(name, plan.layers)))
    where = device or (workers.device if workers else None)
    outcomes = fit_layers(Job(found, assigned.tasks, optional, settings, where, tell), crew)
    refused = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, UnsuitableError)}
    if refused and len(refused) == len(found):
        raise refused.popitem()[1]
    skipped = chosen.skipped | dict.fromkeys(assigned.dense, "the model size lets it stay dense.")
    skipped |= {name: str(error) for name, error in refused.items()}
    fitted = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Replacement)}
    records = [each.record for each in fitted.values()]
    for record in records:
        log.info(
            "%s: %s, %.1f %% of %s bytes removed, relative error %.4f, %.1f s",
            *(record.name, record.method, 100 * record.removed, f"{record.bytes_before:,}"),
            *(record.error_weighted, record.seconds),
        )
    for name, reason in skipped.items():
        log.info("%s: not replaced: %s", name, reason)
    modules = {found[name]: (each.module, each.provenance) for name, each in fitted.items()}
    crew.together(lambda: quantizer.replace_layers(model, modules))
    records = [each.record_in_model() for each in fitted.values()]
    tell("done", len(found), len(found))
    cautions = warnings_of(records)
    for caution in cautions:
        warnings.warn(caution, NeedsTrainingWarning, stacklevel=2)
    after, seconds = count_parameters(model), time.perf_counter() - began
    kept = bytes_in_memory(model, {record.name: record.bytes_in_memory or 0 for record in records})
    return CompressionReport(records, before, after, plan.seed, seconds, skipped, cautions, assigned.calibration, kept)


def preview(
    model: PreTrainedModel,
    plan: Plan | None = None,
    *,
    calibration: str | Path | Iterable[str] | None = None,
    tokenizer: Any | None = None,
    data: str = "hub",
    max_shard_size: int | None = None,
    workers: Workers | None = None,
    progress: Callback | None = None,
    **options: Any,
) -> Preview:
    """Return which layers `compress` would replace, by which method and at what size, without fitting anything.

    The parameters and errors are those of `compress`.

    Returns
    -------
    Preview
        A row per layer, and the plan with which `compress` does the same.

    Examples
    --------
    >>> import transformers
    >>> sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 64}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=400, **sizes))
    >>> [layer] = preview(model, ratio=0.5, method="svd").layers
    >>> layer.name, layer.bytes_before, layer.bytes_budget, layer.svd_rank
    ('embeddings.word_embeddings', 51200, 25600, 14)
    """
    plan, text = _plan_and_text(plan, calibration, options)
    found = finding.find_layers(model, plan.layers)
    common: dict[str, Any] = {"data": data, "max_shard_size": max_shard_size}
    common |= {"workers": workers or Alone(), "tell": Progress.of(progress)}
    assigned = assign(model, found, plan, text=text, tokenizer=tokenizer, **common)
    rows = [_preview_of(found[name], task) for name, task in assigned.tasks.items()]
    if assigned.settled:
        settled: dict[str, Any] = {"allocation": assigned.allocation(), "exponent": assigned.exponent}
        settled["method"] = AUTO  # the allocation names the method of each layer
        if assigned.calibration and isinstance(text, str):
            settled |= {"calibration": text, "digest": assigned.calibration["digest"]}
        plan = Plan.of(plan, settled)
    return Preview(rows, plan)


def _plan_and_text(
    plan: Plan | None, calibration: str | Path | Iterable[str] | None, options: Mapping[str, Any]
) -> tuple[Plan, str | Iterable[str] | None]:
    """Return the plan and the calibration text; texts given directly are not part of a plan."""
    if calibration is None or isinstance(calibration, str | Path):
        plan = Plan.of(plan, dict(options) | ({} if calibration is None else {"calibration": calibration}))
        return plan, plan.text
    return Plan.of(plan, options), calibration


def _refuse_not_finite(layers: Mapping[str, Layer]) -> None:
    """Raise LpCompressError if a tensor of any of the layers has a value that is not finite."""
    for layer in layers.values():
        layer.refuse_not_finite()


def _preview_of(layer: Layer, task: Task) -> LayerPreview:
    """Return the preview of one layer."""
    matrix, (_, before) = layer.matrix(), layer.stored()
    n, d = matrix.shape
    budget = int((1 - task.share.ratio) * before)
    return LayerPreview(
        name=layer.name,
        shape=[n, d],
        method=task.share.method,
        bytes_before=before,
        bytes_budget=budget,
        expected_error=None if task.share.loss is None else task.share.loss**0.5,
        svd_rank=max(0, budget - layer.bytes_beside()) // (matrix.element_size() * (n + d)),
        row_weights=task.weights.source,
    )


def warnings_of(records: list[LayerRecord]) -> list[str]:
    """Return what users must know before using the result."""
    errors = [record.error_fro for record in records if METHODS[record.method].needs_training]
    if not errors:
        return []
    return [
        f"the {len(errors)} sketched layers are unusable until trained: their relative errors are {min(errors):.2f} to"
        f" {max(errors):.2f}. Train the model, for example with lpcompress finetune."
    ]
