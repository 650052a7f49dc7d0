"""The papers' protocol: score each task's model, compress it, score it again, without fine-tuning."""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from numbers import Integral
from pathlib import Path
from typing import Any

from lpcompress import hub
from lpcompress.atomic import refuse_unwritable, write_atomically
from lpcompress.compression import whole_model
from lpcompress.config.plan import Plan, plans_for
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.evaluation.attempts import ITSELF, evaluate_task
from lpcompress.evaluation.comparison import checked_primary
from lpcompress.evaluation.evaluation import Evaluation, Scores, Settings
from lpcompress.evaluation.examination import Examination
from lpcompress.evaluation.gates import Gates, Limits, limits
from lpcompress.evaluation.prediction import MAX_LENGTH
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, TaskResult
from lpcompress.evaluation.setup import Setup, Variant
from lpcompress.evaluation.store import Store
from lpcompress.evaluation.templates import models_of
from lpcompress.glue.data import HUB
from lpcompress.glue.labels import read_label_map
from lpcompress.glue.statistics import RESAMPLES
from lpcompress.glue.tasks import TASKS, Task, chosen
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent
from lpcompress.version import versions

PARTS = ".parts"  # ends the name of the directory of finished tasks, beside the results


def eval_glue(
    model: str | Path,
    tasks: str | Iterable[str] = "all",
    *,
    data: str | Path = HUB,
    baseline: str | Path | None = None,
    methods: Sequence[str] = (),
    limit: int | None = None,
    batch_size: int = 32,
    label_map: str | Path | None = None,
    primary: Mapping[str, str] | None = None,
    max_drop: Limits = None,
    min_recovery: Limits = None,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score models on GLUE's development sets, before and after compression, without fine-tuning.

    With any option of `compress` (ratio, p, method, ...) or `methods`, each task's model is scored as it stands,
    compressed in memory and scored again. With `baseline` models are compared with those that they were made from.
    Else they are scored alone.

    Parameters
    ----------
    model : str or Path
        Hub id or directory of one model, fine-tuned on one task; a template with `{task}`, `{Task}` or `{TASK}` in
        it; or a YAML file that maps tasks to models.
    tasks : str or iterable of str, default="all"
        Such as "mrpc,cola"; "ax" for the diagnostic set, which has no labels and gives predictions only.
    data : str or Path, default="hub"
        `hub`, or a directory with GLUE.
    baseline : str or Path, optional
        As `model`.
    methods : sequence of str
        Methods to compare; every model is scored dense once.
    limit : int, optional
        Only so many of the first rows of each split.
    batch_size : int, default=32
    label_map : str or Path, optional
        What the outputs of models mean, see `glue.labels.read_label_map`.
    primary : mapping, optional
        Task -> the one metric that is its score, such as {"mrpc": "f1"}.
    max_drop, min_recovery : float or mapping, optional
        Gates for the average and every task, or for those named ("average", "rte", "" for all others).
    out : str or Path, optional
        File for the results. Finished parts are kept beside it, in a directory that ends in `.parts`.
    resume : bool, default=False
        Take finished parts of an earlier run with the same settings from there.
    seed : int, default=0
        Of drawn starts and of the bootstrap.
    device : str, optional
        By default a GPU if there is one.
    progress : callable (description, done, total), optional
    **options
        Those of `compression.compress`.

    Returns
    -------
    dict
        What `eval-glue --json` prints, see the README. Metrics, scores and drops are in points. A task that failed
        or has no model has a `status` and a `reason`.

    Raises
    ------
    PlanError
        If an option makes no sense.
    LpCompressError
        If no task could be scored, or the results cannot be written.
    """
    wanted, plans = chosen(tasks), plans_for(methods, options | ({"seed": seed} if options or methods else {}))
    gates = Gates(limits(max_drop), limits(min_recovery))
    if gates and not (plans or baseline):
        raise PlanError("max_drop and min_recovery need something to compare with. Give a ratio or a baseline.")
    if baseline and plans:
        raise PlanError(
            "baseline is for a model that has been compressed before. One that is compressed here is its own baseline."
            f" Leave out baseline, or {', '.join(options) or 'methods'}."
        )
    if resume and not out:
        raise PlanError(
            "resume needs out, the file beside which the finished parts stand. Name the same one as before."
        )
    if label_map:
        read_label_map(Path(label_map))  # refused before any work
    if out:
        refuse_unwritable(Path(out))
    models = models_of(str(model), wanted)
    baselines = models_of(str(baseline), wanted) if baseline else {}
    setup = Setup(
        workers=Workers(device),
        data=str(data),
        limit=checked_count("limit", limit),
        batch_size=checked_count("batch_size", batch_size) or 1,
        label_map=Path(label_map) if label_map else None,
        primary=checked_primary(primary or {}),
        seed=seed,
        store=Store(Path(f"{out}{PARTS}"), resume) if out else None,
        context={"max_length": MAX_LENGTH, "versions": versions()},
        progress=progress or silent,
    )
    results = _evaluate(wanted, models, baselines if baseline else None, setup, plans)
    reference = baseline or (model if plans else None)
    combined = _document(str(model), str(reference) if reference else None, results, setup, plans, gates)
    if out:
        text = json.dumps(combined, indent=2, allow_nan=False) + "\n"
        setup.workers.main_alone(lambda: write_atomically(Path(out), text))
    return combined


class BeforeAfter:
    """The scores of one model before and after it is compressed in place.

    The model is loaded and scored as it stands when this is made.

    Parameters
    ----------
    model : str
        Hub id or directory, fine-tuned on the task.
    task : str
    workers : Workers
        Each of them makes one of these.
    data, limit, label_map, progress
        As for `eval_glue`.

    Attributes
    ----------
    model, tokenizer
        What was loaded.
    """

    def __init__(
        self,
        model: str,
        task: str,
        *,
        data: str = HUB,
        limit: int | None = None,
        label_map: Path | None = None,
        workers: Workers,
        progress: Progress,
    ) -> None:
        tasks = chosen(task)
        if len(tasks) > 1 or tasks[0].key not in TASKS:
            raise PlanError(f"one model is scored on one task, one of {', '.join(TASKS)}. Got {task!r}.")
        self._name, self._task = model, tasks[0]
        self._setup = Setup(workers, data, checked_count("limit", limit), label_map=label_map, progress=progress)
        self._exam = Examination(self._task, model, self._setup)
        with nullcontext() if data != HUB else hub.asked_once():
            self._plain = self._exam.plain()
        self.model, self.tokenizer = self._exam.classifier.model, self._exam.classifier.tokenizer

    def after(self) -> dict[str, Any]:
        """Score the model as it is now and return the document, as from `eval_glue`."""
        outcome = self._exam.outcome(self.model, lambda _: labels_of(self._plain), name="compressed")
        results = {ITSELF: {self._task.key: self._exam.compared(outcome, self._plain)}}
        return _document(self._name, self._name, results, self._setup, {}, Gates({}, {}))


def checked_count(name: str, value: int | None) -> int | None:
    """Return a number of rows; raises PlanError if it is none, or there would be none."""
    if not isinstance(value, Integral | None):
        raise PlanError(f"{name} must be a whole number. Got {value!r}.")
    if value is not None and value < 1:
        raise PlanError(f"{name} must be at least 1. Got {value}.")
    return value


def _evaluate(
    tasks: Sequence[Task],
    models: Mapping[str, str | None],
    baselines: Mapping[str, str | None] | None,
    setup: Setup,
    plans: Mapping[str, Plan],
) -> dict[str, dict[str, TaskResult]]:
    """Return the results of every task, by name of the plan (or of the model itself) and task."""
    variants = [_variant(name, plan, setup) for name, plan in plans.items()]
    results: dict[str, dict[str, TaskResult]] = {name: {} for name in plans or [ITSELF]}
    named = [name for name in (*models.values(), *(baselines or {}).values()) if name]
    local = setup.data != HUB and all(Path(name).exists() for name in named)
    with nullcontext() if local else hub.asked_once():
        for task in tasks:
            model, baseline = models[task.key], baselines[task.key] if baselines else None
            if model is None or (baselines and baseline is None):
                found = dict.fromkeys(results, TaskResult(NOT_AVAILABLE, reason=f"no model is named for {task.key}"))
            else:
                found = evaluate_task(task, model, setup, variants, baseline)
            for name, result in found.items():
                results[name][task.key] = result
    _complain(results)
    return results


def _complain(results: Mapping[str, Mapping[str, TaskResult]]) -> None:
    """Warn of tasks that failed; raise if there is not one that did not."""
    found = [(name, key, result) for name, tasks in results.items() for key, result in tasks.items()]
    if all(result.reason for *_, result in found):
        _, key, first = found[0]
        others = len(found) // len(results) - 1
        raise LpCompressError(
            f"{key}: {first.reason}" + f" The other {others} tasks have no score either." * bool(others)
        )
    for name, key, result in found:
        if result.status == FAILED:
            warnings.warn(f"{' '.join(filter(None, (key, name)))} failed: {result.reason}", stacklevel=4)


def _variant(name: str, plan: Plan, setup: Setup) -> Variant:
    options = plan.model_dump()

    def prepare(model: Any, tokenizer: Any, progress: Progress) -> dict[str, Any]:
        where: dict[str, Any] = {"data": setup.data, "workers": setup.workers}
        report = whole_model.compress(model, tokenizer=tokenizer, progress=progress, **where, **options)
        return {"plan": plan.model_dump(mode="json"), **asdict(report)}

    counts = Path(plan.row_weights)
    content = counts.read_text(encoding="utf-8") if counts.is_file() else None
    return Variant(name, prepare, {"compression": plan.model_dump(mode="json"), "row_weights": content})
