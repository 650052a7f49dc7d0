"""Compress a model in memory: choose the layers, factor each, put the factors in their place."""

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
from lpcompress.methods import METHODS
from lpcompress.processes import Alone, Workers, checked_device
from lpcompress.progress import Callback, Progress
from lpcompress.surgery import finding
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.sizes import count_parameters

log = logging.getLogger(__name__)


def compress(
    model: PreTrainedModel,
    plan: Plan | None = None,
    *,
    calibration: str | Path | Iterable[str] | None = None,
    tokenizer: Any | None = None,
    data: str = "hub",
    device: str | torch.device | None = None,
    workers: Workers | None = None,
    progress: Callback | None = None,
    **options: Any,
) -> CompressionReport:
    """Replace layers of `model` by factored ones, in place; `model.save_pretrained` then writes the format.

    No layer is changed before all are fitted: an error leaves the model as it was.

    Parameters
    ----------
    model : PreTrainedModel
    plan : Plan, optional
        What to compress and how; by default the word embedding, of which 28 % of the bytes are removed.
    calibration : str, Path or iterable of str, optional
        Unlabelled text, in place of the plan's: a file, `glue:TASK`, or the texts themselves. Tokens are counted, all
        other layers minimise the error of their outputs, and a size of the model is shared out by how much the model's
        output depends on each layer.
    tokenizer : PreTrainedTokenizerBase, optional
        Gives the row prior; by default it is looked up beside the checkpoint that the model came from.
    data : str, default="hub"
        Where GLUE is, for `glue:TASK`: the Hub or a directory.
    device : str or torch.device, optional
        Where to factor; by default the workers' own, without them where the layer is.
    workers : Workers, optional
        Processes that share the run, each of which must call this with the same model and options on a machine that
        sees the same TMPDIR. Each layer is factored by one of them; the result is that of one process, in all.
    progress : callable (description, done, total), optional
        `done` and `total` are None where they are unknown.
    **options
        Fields of `Plan`, which win over those of `plan`: ratio, target_size, max_bytes, layers, method, p, clusters,
        row_weights, exponent, seed, allocation.

    Raises
    ------
    PlanError
        If an option makes no sense.
    LpCompressError
        If a layer cannot be found or replaced, or the size cannot be reached.

    Warns
    -----
    NeedsTrainingWarning
        After `sketch`.
    """
    began, (plan, text) = time.perf_counter(), _asked(plan, calibration, options)
    settings, tell = Settings(plan.p, plan.clusters, plan.seed), Progress.of(progress)
    if not isinstance(model, nn.Module):
        raise LpCompressError(f"compress takes a model, as lpcompress.load returns it. Got {type(model).__name__}.")
    if isinstance(tokenizer, str):
        raise LpCompressError("tokenizer must be a tokenizer, as lpcompress.load returns it. Got text.")
    if device is not None:
        device = checked_device(device)
    crew = workers or Alone()
    found, before = finding.find_layers(model, plan.layers), count_parameters(model)
    assigned = assign(model, found, plan, text=text, tokenizer=tokenizer, data=data, workers=crew, tell=tell)
    optional = frozenset(name for name in found if not (assigned.settled or finding.is_named(name, plan.layers)))
    where = device or (workers.device if workers else None)
    outcomes = fit_layers(Job(found, assigned.tasks, optional, settings, where, tell), crew)
    refused = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, UnsuitableError)}
    if refused and len(refused) == len(found):
        raise refused.popitem()[1]
    skipped = dict.fromkeys(assigned.dense, "the size of the model leaves it as it is.")
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
    tell("done", len(found), len(found))
    cautions = warnings_of(records)
    for caution in cautions:
        warnings.warn(caution, NeedsTrainingWarning, stacklevel=2)
    after, seconds = count_parameters(model), time.perf_counter() - began
    return CompressionReport(records, before, after, plan.seed, seconds, skipped, cautions, assigned.calibration)


def preview(
    model: PreTrainedModel,
    plan: Plan | None = None,
    *,
    calibration: str | Path | Iterable[str] | None = None,
    tokenizer: Any | None = None,
    data: str = "hub",
    workers: Workers | None = None,
    progress: Callback | None = None,
    **options: Any,
) -> Preview:
    """Say which layers `compress` would replace and what the asked size leaves for each; fits nothing.

    Takes the options of `compress`.
    """
    plan, text = _asked(plan, calibration, options)
    found = finding.find_layers(model, plan.layers)
    common: dict[str, Any] = {"workers": workers or Alone(), "tell": Progress.of(progress)}
    assigned = assign(model, found, plan, text=text, tokenizer=tokenizer, data=data, **common)
    rows = [_preview_of(found[name], task) for name, task in assigned.tasks.items()]
    if assigned.settled:
        plan = Plan.of(plan, {"allocation": assigned.allocation(), "exponent": assigned.exponent})
    return Preview(rows, plan)


def _asked(
    plan: Plan | None, calibration: str | Path | Iterable[str] | None, options: Mapping[str, Any]
) -> tuple[Plan, str | Iterable[str] | None]:
    """Return the plan, and the text to calibrate with: texts themselves are no part of a plan."""
    if calibration is None or isinstance(calibration, str | Path):
        plan = Plan.of(plan, dict(options) | ({} if calibration is None else {"calibration": calibration}))
        return plan, plan.calibration
    return Plan.of(plan, options), calibration


def _preview_of(layer: Layer, task: Task) -> LayerPreview:
    """Return what is asked of one layer, and what that leaves it."""
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
    """Return what people must know before they use the result."""
    errors = [record.error_fro for record in records if METHODS[record.method].needs_training]
    if not errors:
        return []
    return [
        f"the {len(errors)} sketched layers are unusable until trained: they are off by {min(errors):.2f} to"
        f" {max(errors):.2f} of the dense weights' norm. Train the model, with lpcompress finetune for example."
    ]
