"""Settling, before anything is fitted, the method, size, row weights and input statistics of every layer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lpcompress.compression.budget import LayerCurves, layer_curves, share_out
from lpcompress.compression.calibration import Calibration, calibrate
from lpcompress.compression.priors import RowWeights, exponent_for, weights_of
from lpcompress.compression.records import Share, Task
from lpcompress.config.plan import DEFAULT_RATIO
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.factor.problem import Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.methods import AUTO, METHODS
from lpcompress.processes import Workers, spread
from lpcompress.progress import Progress
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.sizes import header_bytes, tensor_bytes

EMBEDDING = 10.0
"""Sensitivity to the word embedding where none was measured, that to a linear layer being 1. On classifiers for MRPC
and CoLA, noise of 5 % moved the output 5 to 20 times as far in the embedding as in the median linear layer."""


@dataclass(frozen=True)
class Assignment:
    """The tasks of all layers that change, and the chosen layers that stay as they are.

    Attributes
    ----------
    tasks : dict of str to Task
    dense : tuple of str
    exponent : float
        The power of the row prior that was settled on.
    settled : bool
        Whether a size of the model, or a plan, says what each layer gets: none may be larger then.
    calibration : dict or None
        `source` and number of `texts` of the calibration, if there was one.
    """

    tasks: dict[str, Task]
    dense: tuple[str, ...]
    exponent: float
    settled: bool
    calibration: dict[str, Any] | None

    def allocation(self) -> dict[str, dict[str, Any]]:
        """Return what `Plan.allocation` holds, by which the same layers are fitted again."""
        return {name: {"method": task.share.method, "ratio": task.share.ratio} for name, task in self.tasks.items()}


def assign(
    model: Any,
    found: Mapping[str, Layer],
    *,
    ratio: float | None = None,
    target_size: float | None = None,
    max_bytes: int | None = None,
    allocation: Mapping[str, Any] | None = None,
    calibration: str | Iterable[str] | None = None,
    data: str = "hub",
    method: str = "auto",
    settings: Settings,
    row_weights: str = "zipf",
    exponent: float | None = None,
    tokenizer: Any | None = None,
    workers: Workers,
    tell: Progress,
) -> Assignment:
    """Settle what each of the layers `found` is asked. The parameters are those of `compression.compress`.

    Raises
    ------
    PlanError
        If options do not go together: p other than 2 with calibration, a size of the model with `sketch`.
    LpCompressError
        If the budget cannot be met, or the calibration text cannot be read.
    """
    whole = tensor_bytes(model)
    limit = None if target_size is None else int(target_size * whole)
    if max_bytes is not None:
        limit = max_bytes - header_bytes(model, found)
    removed = DEFAULT_RATIO if ratio is None else ratio
    if limit is not None:
        removed = max(0.0, 1 - limit / whole)
    power = exponent_for(removed) if exponent is None else exponent
    if calibration is not None and settings.p != 2:
        raise PlanError(f"calibration is for p = 2: it changes the norm of the fit itself. Got p = {settings.p:g}.")

    def look() -> tuple[Calibration | None, dict[str, RowWeights]]:
        measured = None
        if calibration is not None:
            measured = calibrate(model, found, calibration, data, tokenizer, settings.seed, limit is not None, tell)
        return measured, {
            name: _weights(model, layer, measured, row_weights, tokenizer, power) for name, layer in found.items()
        }

    measured, weights = workers.together(look)
    moments = measured.moments if measured else {}
    if limit is not None:
        if method != AUTO and not METHODS[method].curve:
            raise PlanError(
                f"method {method!r} has no error curve, so a size of the model cannot be shared. Give ratio."
            )
        shares = _within(limit, whole, found, method, settings, weights, measured, workers, tell)
    elif allocation is not None:
        shares = _as_planned(allocation, found)
    else:
        shares = {name: Share(method, removed) for name in found}
    tasks = {name: Task(share, weights[name], moments.get(name)) for name, share in shares.items()}
    dense = tuple(name for name in found if name not in tasks)
    settled = limit is not None or allocation is not None
    text = {"source": measured.source, "texts": measured.texts} if measured else None
    return Assignment(tasks, dense, power, settled, text)


def _within(
    limit: int,
    whole: int,
    found: Mapping[str, Layer],
    method: str,
    settings: Settings,
    weights: Mapping[str, RowWeights],
    measured: Calibration | None,
    workers: Workers,
    tell: Progress,
) -> dict[str, Share]:
    """Share out what `limit` leaves for the layers `found` of a model that takes `whole` bytes."""

    def draw(name: str, done: int, total: int) -> LayerCurves:
        tell(f"{name}: drawing its error curve", done, total)
        moment = measured.moments.get(name) if measured else None
        whitener = Whitener.of(moment) if moment is not None else None
        with found[name].lend() as layer:
            return layer_curves(layer, method, settings, weights[name].values, whitener)

    sizes = {name: layer.stored()[1] for name, layer in found.items()}
    curves = spread(sizes, draw, workers)
    others = whole - sum(sizes.values())
    sensitivity = measured.sensitivities if measured else {}
    guess = {name: EMBEDDING if layer.is_word_embedding else 1.0 for name, layer in found.items()}
    return share_out(curves, guess | sensitivity, limit - others)


def _as_planned(allocation: Mapping[str, Any], found: Mapping[str, Layer]) -> dict[str, Share]:
    """Return the shares that a plan records."""
    unknown = sorted(set(allocation) - set(found))
    if unknown:
        raise LpCompressError(
            f"allocation names {unknown[0]}, which is none of the chosen layers of this model. Use the plan with the"
            " model that it was made for, and with the same layers."
        )
    return {name: Share(**allocation[name]) for name in found if name in allocation}


def _weights(
    model: Any, layer: Layer, measured: Calibration | None, wish: str, tokenizer: Any | None, exponent: float
) -> RowWeights:
    """Return the row weights of a layer; counted tokens take the place of the prior, not of a user's own counts."""
    if measured and wish == "zipf" and layer.is_word_embedding:
        prior = weights_of(model, layer, wish, tokenizer, 1.0)
        return measured.row_weights(prior, layer.matrix().shape[0], exponent)
    return weights_of(model, layer, wish, tokenizer, exponent)
