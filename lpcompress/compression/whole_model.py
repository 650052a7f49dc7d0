"""Compress a model in memory: choose the layers, factor each, put the factors in their place."""

import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from lpcompress.checkpoints import quantizer
from lpcompress.compression.all_layers import Job, fit_layers
from lpcompress.compression.assignment import assign
from lpcompress.compression.one_layer import Replacement
from lpcompress.compression.records import CompressionReport, LayerPreview, LayerRecord, Preview, Task
from lpcompress.config.plan import checked
from lpcompress.errors import LpCompressError, NeedsTrainingWarning, UnsuitableError
from lpcompress.factor.problem import Settings
from lpcompress.methods import METHODS
from lpcompress.processes import Alone, Workers, checked_device
from lpcompress.progress import Progress, silent
from lpcompress.surgery import finding
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.sizes import count_parameters


@checked
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
    device: str | torch.device | None = None,
    workers: Workers | None = None,
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
    device : str or torch.device, optional
        Where to factor; by default the workers' own, without them where the layer is.
    workers : Workers, optional
        Processes that share the run, each of which must call this with the same model and options on a machine that
        sees the same TMPDIR. Each layer is factored by one of them; the result is that of one process, in all.
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
    if not isinstance(model, nn.Module):
        raise LpCompressError(f"compress takes a model, as lpcompress.load returns it. Got {type(model).__name__}.")
    if isinstance(tokenizer, str):
        raise LpCompressError("tokenizer must be a tokenizer, as lpcompress.load returns it. Got text.")
    if device is not None:
        device = checked_device(device)
    tell, crew = progress or silent, workers or Alone()
    patterns = tuple(layers)
    found, before = finding.find_layers(model, patterns), count_parameters(model)
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
        workers=crew,
        tell=tell,
    )
    optional = frozenset(name for name in found if not (assigned.settled or finding.is_named(name, patterns)))
    where = device or (workers.device if workers else None)
    outcomes = fit_layers(Job(found, assigned.tasks, optional, settings, where, tell), crew)
    refused = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, UnsuitableError)}
    if refused and len(refused) == len(found):
        raise refused.popitem()[1]
    skipped = dict.fromkeys(assigned.dense, "the size of the model leaves it as it is.")
    skipped |= {name: str(error) for name, error in refused.items()}
    fitted = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Replacement)}
    records = [each.record for each in fitted.values()]
    modules = {found[name]: (each.module, each.provenance) for name, each in fitted.items()}
    crew.together(lambda: quantizer.replace_layers(model, modules))
    tell("done", len(found), len(found))
    cautions = warnings_of(records)
    for caution in cautions:
        warnings.warn(caution, NeedsTrainingWarning, stacklevel=2)
    after, seconds = count_parameters(model), time.perf_counter() - began
    return CompressionReport(records, before, after, seed, seconds, skipped, cautions, assigned.calibration)


@checked
def preview(
    model: PreTrainedModel,
    *,
    layers: Iterable[str] = ("embedding",),
    tokenizer: Any | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
    data: str = "hub",
    **options: Any,
) -> Preview:
    """Say which layers `compress` would replace and what the asked size leaves for each; fits nothing.

    Takes the options of `compress`.
    """
    patterns = tuple(layers)
    found = finding.find_layers(model, patterns)
    fit = {key: options.pop(key) for key in ("p", "clusters", "seed") if key in options}
    assigned = assign(
        model,
        found,
        settings=Settings(**fit),
        tokenizer=tokenizer,
        data=data,
        workers=workers or Alone(),
        tell=progress or silent,
        **options,
    )
    rows = [_preview_of(found[name], task) for name, task in assigned.tasks.items()]
    plan = {"layers": patterns} | fit | options
    if assigned.settled:
        plan |= {"allocation": assigned.allocation(), "exponent": assigned.exponent}
        plan |= dict.fromkeys(("ratio", "target_size", "max_bytes"))
    return Preview(rows, plan)


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
