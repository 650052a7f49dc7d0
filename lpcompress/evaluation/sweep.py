"""Error, and drop of the scores, against bytes: a model at several sizes, with several methods."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from lpcompress.checkpoints import loading
from lpcompress.checkpoints.files import directory_of, file_bytes
from lpcompress.checkpoints.origins import located
from lpcompress.compression.priors import weights_of
from lpcompress.compression.records import CompressionReport
from lpcompress.config.origin import Origin
from lpcompress.config.plan import DRAWN, SIZES, Plan
from lpcompress.config.scoring import Scoring
from lpcompress.errors import PlanError, UnsuitableError
from lpcompress.evaluation import benchmark
from lpcompress.evaluation.classifier import fingerprint
from lpcompress.evaluation.evaluation import Scores
from lpcompress.evaluation.results import FAILED
from lpcompress.evaluation.setup import Setup
from lpcompress.evaluation.store import Store
from lpcompress.evaluation.sweep_points import Measured, Point, Sweep
from lpcompress.evaluation.templates import PLACEHOLDERS, models_of
from lpcompress.evaluation.twins import twin_of
from lpcompress.evaluation.variants import variant_of
from lpcompress.factor.bound import least_errors
from lpcompress.glue.tasks import chosen
from lpcompress.processes import Workers
from lpcompress.progress import Progress
from lpcompress.surgery.finding import find_layers
from lpcompress.version import versions

SWEEP, SCORES = "sweep.json", "scores.json"
CURVE = 40  # sizes at which the bound is computed
SPAN = 1.25  # by how much its ends are beyond the points


def sweep(
    model: str,
    tasks: Sequence[str],
    plans: Mapping[str, Plan],
    scoring: Scoring,
    out: Path,
    *,
    origin: Origin,
    resume: bool = False,
    device: str | None = None,
    progress: Progress,
) -> Sweep:
    """Compress a model as each plan says, in memory, and measure it.

    Parameters
    ----------
    model : str
        Hub id or directory; with tasks also a template or a YAML file, as for `eval_glue`.
    tasks : sequence of str
        Tasks on which to score, as for `eval_glue`; empty for errors only.
    plans : mapping of str to Plan
        By name; see `config.sweeping`.
    scoring : Scoring
    out : Path
        Directory in which finished points are kept, and scores are written to `scores.json`.
    origin : Origin
        Which version of the model, or of the models.
    resume : bool, default=False
        Reuse the points that an earlier run with the same directory finished.
    device : str, optional
    progress : Progress

    Raises
    ------
    PlanError
        If an option is invalid.
    LpCompressError
        If the model cannot be loaded, or no point can be made.
    """
    if tasks:
        points, dense, first = _scored(model, origin, tasks, plans, scoring, out, resume, device, progress)
    else:
        points, dense, first = _measured(model, origin, plans, scoring, out, resume, device, progress)
    points, curve = _with_bound(first, points, progress)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    settings = origin.given() | _settings(list(tasks), plans, scoring)
    return Sweep(model, {"bytes": _bytes_of(first), **dense}, points, curve, settings, versions(), date)


def _scored(
    model: str,
    origin: Origin,
    tasks: Sequence[str],
    plans: Mapping[str, Plan],
    scoring: Scoring,
    out: Path,
    resume: bool,
    device: str | None,
    progress: Progress,
) -> tuple[list[Point], dict[str, Any], str]:
    """Return the points, what is known of the dense models, and where the first model is."""
    where: dict[str, Any] = {"out": out / SCORES, "resume": resume, "device": device, "origin": origin}
    found = benchmark.evaluate(model, tasks, plans, scoring, progress=progress, **where)
    named = {key: name for key, name in models_of(model, chosen(tasks)).items() if name}
    places = {key: located(name, **origin.given()) for key, name in named.items()}
    points = [_point(plan, found.methods[each], places) for each, plan in plans.items()]
    scores = {key: each.baseline_score for scores in found.methods.values() for key, each in scores.tasks.items()}
    average = next((each.mean.baseline_average for each in found.methods.values() if not each.failed), None)
    return points, {"score": average, "tasks": scores}, next(iter(places.values()))


def _point(plan: Plan, scores: Scores, places: Mapping[str, str]) -> Point:
    """Return the point of a plan, from its scores; there is no mean over some of the tasks."""
    reports = {key: each.compression for key, each in scores.tasks.items() if each.compression}
    measured = Measured.mean([Measured.of(report, _bytes_of(places[key])) for key, report in reports.items()])
    tasks = {
        key: {name: getattr(each, name) for name in ("score", "drop", "se", "recovery")}
        if each.reason is None
        else {"reason": each.reason}
        for key, each in scores.tasks.items()
    }
    reason = next((f"{key}: {each.reason}" for key, each in scores.tasks.items() if each.status == FAILED), None)
    if reason:
        return Point(plan, None, tasks=tasks, reason=reason)
    return Point(plan, measured, scores.mean.average_drop, scores.mean.average_drop_se, tasks)


def _measured(
    model: str,
    origin: Origin,
    plans: Mapping[str, Plan],
    scoring: Scoring,
    out: Path,
    resume: bool,
    device: str | None,
    progress: Progress,
) -> tuple[list[Point], dict[str, Any], str]:
    """Return the points without scores; otherwise as `_scored`."""
    if any(placeholder in model for placeholder in PLACEHOLDERS):
        raise PlanError(f"{model} stands for one model for each task. Name the tasks with --tasks.")
    progress(f"loading {model}")
    place = located(model, **origin.given())
    loaded, tokenizer = loading.load(place)
    directory = directory_of(place)
    setup = Setup(Workers(device, alone="cpu"), scoring, progress=progress)
    store = Store.beside(out / SWEEP, resume, TypeAdapter(CompressionReport))
    key = {"model": fingerprint(directory, tokenizer) if directory else model, "versions": versions()}

    def point(name: str, plan: Plan) -> Point:
        variant = variant_of(name, plan, setup)
        tell = progress.under(f"{name}: ")
        try:
            report = store.kept(
                "errors", key | variant.key, setup.workers, lambda: variant.prepare(twin_of(loaded), tokenizer, tell)
            )
        except UnsuitableError as error:
            return Point(plan, None, reason=str(error))
        return Point(plan, Measured.of(report, _bytes_of(place)))

    points = [point(name, plan) for name, plan in plans.items()]
    if all(each.measured is None for each in points):
        raise UnsuitableError(str(points[0].reason))
    return points, {"score": None, "tasks": {}}, place


def _with_bound(
    model: str, points: Sequence[Point], progress: Progress
) -> tuple[list[Point], dict[str, list[float]] | None]:
    """Return the points with the least error of the embedding at its size, and the curve of these errors.

    There is none without a word embedding, or if its row weights were counted in calibration text.
    """
    plan = points[0].plan
    sizes = [each.measured.embedding_bytes for each in points if each.measured]
    if not all(sizes) or plan.text not in (None, DRAWN):
        return list(points), None
    progress("computing the least error of the word embedding")
    loaded, tokenizer = loading.load(model, on_disk=True)
    layer = next(each for each in find_layers(loaded, plan.layers).values() if each.is_word_embedding)
    weights = weights_of(loaded, layer, plan.row_weights, tokenizer, plan.exponent or 0.0)
    with layer.lend():
        matrix = layer.matrix_to_fit()
    ends = min(filter(None, sizes)) / SPAN, min(max(filter(None, sizes)) * SPAN, float(layer.stored()[1]))
    curve = np.geomspace(*ends, CURVE).tolist()
    errors = least_errors(matrix, [*curve, *filter(None, sizes)], weights.values)
    own = iter(errors[CURVE:])
    bounded = [replace(each, bound=next(own)) if each.measured else each for each in points]
    return bounded, {"bytes": curve, "error": errors[:CURVE]}


def _settings(tasks: list[str], plans: Mapping[str, Plan], scoring: Scoring) -> dict[str, Any]:
    """Return the options that give this sweep."""
    every = list(plans.values())
    key, name = ("ratio", "ratios") if every[0].ratio is not None else ("target_size", "sizes")
    shared = every[0].model_dump(mode="json", exclude_unset=True, exclude={"method", *SIZES})
    values = dict.fromkeys(getattr(each, key) for each in every)
    points = {name: list(values), "methods": list(dict.fromkeys(each.method for each in every))}
    return points | shared | {"tasks": tasks} | scoring.model_dump(mode="json", exclude_unset=True)


def _bytes_of(model: str) -> int:
    directory = directory_of(model)
    return file_bytes(directory) if directory else 0
