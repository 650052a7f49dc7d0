"""Choose the method, size, row weights and input statistics of every layer, before anything is fitted."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lpcompress.checkpoints.headers import header_bytes, most_files
from lpcompress.compression.calibration import Calibration, calibrate
from lpcompress.compression.one_step import OneStep, unit_of
from lpcompress.compression.one_threshold import OneThreshold
from lpcompress.compression.priors import RowWeights, exponent_for, weights_of
from lpcompress.compression.records import Share, Task
from lpcompress.config.plan import DRAWN, LayerPlan, Plan
from lpcompress.errors import BudgetError, LpCompressError, PlanError
from lpcompress.factor.problem import Settings
from lpcompress.methods import AUTO, CODED, DEFAULT_RATIO, METHODS
from lpcompress.processes import Workers
from lpcompress.progress import Progress
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.sizes import tensor_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """The tasks of the layers to compress, and the chosen layers that stay dense.

    Attributes
    ----------
    tasks : dict of str to Task
        Tasks by layer name.
    dense : tuple of str
        Names of the chosen layers that stay dense.
    exponent : float
        Exponent applied to token frequency to get row weights.
    settled : bool
        Whether a model size or a plan's allocation fixes the size of each layer; every task must then succeed.
    calibration : dict or None
        `source` of the calibration text, number of `texts` and `digest`; None without calibration.
    """

    tasks: dict[str, Task]
    dense: tuple[str, ...]
    exponent: float
    settled: bool
    calibration: dict[str, Any] | None

    def allocation(self) -> dict[str, dict[str, Any]]:
        """Return the value for `Plan.allocation` that reproduces this assignment."""
        return {name: task.share.planned() for name, task in self.tasks.items()}


def assign(
    model: Any,
    found: Mapping[str, Layer],
    plan: Plan,
    *,
    text: str | Iterable[str] | None,
    tokenizer: Any | None,
    data: str,
    max_shard_size: int | None,
    workers: Workers,
    tell: Progress,
) -> Assignment:
    """Choose the method and size of each of the layers `found`.

    Parameters
    ----------
    model : PreTrainedModel
    found : mapping of str to Layer
    plan : Plan
    text : str, iterable of str or None
        Calibration text: the plan's `calibration`, or the texts themselves.
    tokenizer, data, max_shard_size, workers
        As for `whole_model.compress`.
    tell : Progress

    Raises
    ------
    PlanError
        If options are incompatible: p other than 2 with calibration, or a model size with `sketch`.
    LpCompressError
        If the budget cannot be met, or the calibration text cannot be read.
    """
    settings, whole = Settings(plan.p, plan.clusters, plan.seed), tensor_bytes(model)
    limit = _limit(model, found, plan, whole, max_shard_size)
    removed = DEFAULT_RATIO if plan.ratio is None else plan.ratio
    if limit is not None:
        removed = max(0.0, 1 - limit / whole)
    method = CODED if limit is not None and plan.method == AUTO else plan.method
    if limit is not None and METHODS[method].needs_training:
        raise PlanError(f"layers of method {method!r} cannot share a model size. Give ratio instead.")
    power = exponent_for(removed, method) if plan.exponent is None else plan.exponent
    if text is not None and plan.p != 2:
        raise PlanError(f"calibration is for p = 2, because it changes the norm of the fit. Got p = {plan.p:g}.")

    def look() -> tuple[Calibration | None, dict[str, RowWeights]]:
        measured = None if text is None else _calibrated(model, found, plan, text, data, tokenizer, limit, tell)
        return measured, {
            name: _weights(model, layer, measured, plan.row_weights, tokenizer, power) for name, layer in found.items()
        }

    measured, weights = workers.together(look)
    moments = measured.moments if measured else {}
    if plan.allocation is not None:
        shares = _as_planned(plan.allocation, found)
    elif limit is None:
        shares = {name: Share(plan.method, removed) for name in found}
    else:
        n_bytes, units = limit - whole + sum(layer.stored()[1] for layer in found.values()), {}
        for name, layer in found.items():
            with layer.lend():
                units[name] = unit_of(layer, weights[name], measured)
        sized = OneStep if METHODS[method].one_step else OneThreshold
        shares = sized(found, weights, moments, units, settings, method, workers, tell).shares(n_bytes)
    tasks = {name: Task(share, weights[name], moments.get(name)) for name, share in shares.items()}
    dense = tuple(name for name in found if name not in tasks)
    settled = limit is not None or plan.allocation is not None
    return Assignment(tasks, dense, power, settled, measured.record() if measured else None)


def _limit(model: Any, found: Mapping[str, Layer], plan: Plan, whole: int, max_shard_size: int | None) -> int | None:
    """Return the bytes that all tensors of the model may take; None unless a size of the model was given."""
    if plan.max_bytes is None:
        return None if plan.target_size is None else int(plan.target_size * whole)
    header = header_bytes(model, found, most_files(plan.max_bytes, max_shard_size))
    if plan.max_bytes <= header:
        raise BudgetError(
            f"max_bytes must be more than the {header:,} bytes that names, sizes and digests take in the weight files."
            f" Got {plan.max_bytes:,}."
        )
    return plan.max_bytes - header


def _calibrated(
    model: Any,
    found: Mapping[str, Layer],
    plan: Plan,
    text: str | Iterable[str],
    data: str,
    tokenizer: Any | None,
    limit: int | None,
    tell: Progress,
) -> Calibration | None:
    """Return statistics of the model; None if drawn text, which is the default and nobody asked for, does not work."""
    frequencies = plan.row_weights if plan.row_weights != "uniform" else "zipf"
    sized = limit is not None or plan.allocation is not None  # an allocation comes from a size
    asked = tokenizer, frequencies, plan.seed, sized
    try:
        measured = calibrate(model, found, text, data, *asked, tell)
    except LpCompressError as error:
        if plan.calibration is not None or text != DRAWN:
            raise
        log.warning("Not calibrated on drawn text: %s", str(error))  # its traceback refers to the model
        return None
    if plan.digest not in (None, measured.digest):
        raise LpCompressError(
            f"the plan was made with other calibration text: its digest is {plan.digest}, that of {measured.source} is"
            f" {measured.digest}. Use the text that the plan was made with, or make a new plan."
        )
    return measured


def _as_planned(allocation: Mapping[str, LayerPlan], found: Mapping[str, Layer]) -> dict[str, Share]:
    """Return the shares recorded in a plan's allocation."""
    unknown = sorted(set(allocation) - set(found))
    if unknown:
        raise LpCompressError(
            f"allocation names {unknown[0]}, which is not among the chosen layers of this model. Use the plan with the"
            " model it was made for, and with the same layers."
        )
    chosen = {name: allocation[name] for name in found if name in allocation}
    return {name: Share(each.method, each.ratio or 0.0, delta=each.delta) for name, each in chosen.items()}


def _weights(
    model: Any, layer: Layer, measured: Calibration | None, wish: str, tokenizer: Any | None, exponent: float
) -> RowWeights:
    """Return the row weights of a layer; calibration counts replace the Zipf prior, but not the user's own counts.

    Rows of other layers than the word embedding count as the model's output follows theirs, if that was measured.
    """
    if measured and not measured.is_drawn and wish == "zipf" and layer.is_word_embedding:
        prior = weights_of(model, layer, wish, tokenizer, 1.0)
        return measured.word_weights(prior, layer.matrix().shape[0], exponent)
    found = measured.output_weights(layer.name) if measured else None
    return found or weights_of(model, layer, wish, tokenizer, exponent)
