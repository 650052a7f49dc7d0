"""Fine-tune a dense or compressed classifier on a GLUE task: scored before and after, a checkpoint like any other."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lpcompress import hub
from lpcompress.checkpoints import saving
from lpcompress.checkpoints.files import directory_of
from lpcompress.config.recipe import Recipe
from lpcompress.config.scoring import Scoring
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.evaluation.classifier import Classifier
from lpcompress.evaluation.comparison import refuse_unknown
from lpcompress.evaluation.examination import Examination
from lpcompress.evaluation.results import Outcome
from lpcompress.evaluation.setup import Setup
from lpcompress.finetuning.lesson import Lesson, teacher_of
from lpcompress.finetuning.record import Record
from lpcompress.finetuning.report import write_companions
from lpcompress.finetuning.state import State
from lpcompress.finetuning.training import frozen
from lpcompress.glue.data import HUB, Rows, load_rows
from lpcompress.glue.labels import LabelMap
from lpcompress.glue.tasks import TASKS, Task, chosen
from lpcompress.processes import Workers
from lpcompress.progress import Callback, Progress
from lpcompress.version import versions


def finetune(
    model: str | Path,
    task: str,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    scoring: Scoring | None = None,
    distill: str | Path | None = None,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callback | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train a classifier on a task's training rows, all of it or all but what is frozen.

    A compressed layer stays compressed: its codes and bases are trained. A model without a head gets one.

    Parameters
    ----------
    model : str or Path
        Hub id or directory; dense or compressed.
    task : str
        One of GLUE's nine.
    out : str or Path
        Directory for the checkpoint. What a run needs to be resumed stands beside it meanwhile, in a directory that
        ends in `.training`.
    recipe : Recipe, optional
        How to train.
    scoring : Scoring, optional
        Where the data is, and how to score before and after.
    distill : str or Path, optional
        A model fine-tuned on the task, mostly the dense one, whose logits and hidden states are followed.
    device : str, optional
        By default a GPU if there is one.
    resume : bool, default=False
        Go on with a run of the same settings that was ended.
    overwrite : bool, default=False
        Replace the checkpoint in `out`, and forget what an ended run left beside it.
    progress : callable (description, done, total), optional
        `done` and `total` are None where they are unknown.
    **options
        Fields of `Recipe` (epochs, max_steps, learning_rate, batch_size, freeze, mixed_precision, split, train_limit,
        seed, ...) and of `Scoring` (data, limit, label_map, ...), which win over those of `recipe` and `scoring`; a
        name that both have is the recipe's.

    Returns
    -------
    dict
        What `finetune --json` prints: scores before (None with a new head) and after, in points, and how it was done.

    Raises
    ------
    PlanError
        If an option makes no sense.
    LpCompressError
        If model, teacher or rows cannot be read, or the result cannot be written.
    """
    to_score = {key: options.pop(key) for key in [*options] if key in Scoring.model_fields.keys() - Recipe.model_fields}
    recipe, scoring = Recipe.of(recipe, options), Scoring.of(scoring, to_score)
    where: dict[str, Any] = {"device": device, "resume": resume, "overwrite": overwrite, "progress": progress}
    return tune(model, task, out, recipe, scoring, distill=distill, **where).document()


def tune(
    model: str | Path,
    task: str,
    out: str | Path,
    recipe: Recipe,
    scoring: Scoring,
    *,
    distill: str | Path | None = None,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callback | None = None,
) -> Record:
    """Do the work of `finetune`, and return its record as an object.

    Parameters
    ----------
    model, task, out, recipe, scoring, distill, device, resume, overwrite, progress
        As for `finetune`.

    Raises
    ------
    PlanError, LpCompressError
        As `finetune` does.
    """
    began, wanted, target = time.perf_counter(), _one_task(task), Path(out).resolve()
    refuse_unknown(scoring.primary)
    setup = Setup(Workers(device), scoring, progress=Progress.of(progress))
    workers, state = setup.workers, State.of(target)
    workers.main_alone(lambda: saving.refuse_existing(target, overwrite))
    if recipe.mixed_precision == "fp16" and workers.device.type == "cpu":
        raise LpCompressError("mixed_precision fp16 needs a GPU; bf16 works on a CPU too. This run is on a CPU.")
    with nullcontext() if scoring.data != HUB else hub.asked_once():
        rows = _labelled(load_rows(wanted, recipe.split, scoring.data, recipe.train_limit))
        exam = Examination(wanted, str(model), setup, head_seed=recipe.seed)
        before = None if exam.classifier.new_head else exam.plain()
        guide = Examination(wanted, str(distill), setup) if distill else None
        guided = guide.plain() if guide else None
    classifier, labels = exam.classifier, _labels(wanted, before)
    teacher = teacher_of(guide.classifier, guided.labels, classifier, labels) if guide and guided else None
    lesson = Lesson(classifier, rows, labels, recipe, teacher)
    settings = lesson.settings(guide.classifier.fingerprint if guide else None, workers.count)
    with frozen(classifier.model, recipe.freeze):
        workers.main_alone(lambda: state.prepare(settings, resume, overwrite))
        trained = lesson.train(state.directory, setup)
    if lesson.diverged:
        workers.main_alone(state.forget)  # there is nothing that a run could be resumed from
        raise LpCompressError(
            "training diverged: weights are NaN or infinite. Lower the learning rate, which is"
            f" {recipe.learning_rate:g}."
        )
    after = exam.outcome(classifier.model, lambda _: labels, name="fine-tuned")
    result = exam.compared(after, before)
    record = Record(
        model=str(model),
        task=wanted.key,
        out=str(out),
        head="new" if classifier.new_head else "kept",
        distill=str(distill) if distill else None,
        n=result.n,
        metrics=result.metrics,
        score=result.score,
        score_before=result.baseline_score,
        metrics_before=before.metrics if before else None,
        gain=None if result.drop is None else -result.drop,
        se=result.se,
        teacher_score=guide.compared(guided).score if guide and guided else None,
        train_score=lesson.score(setup),
        trained=trained,
        settings=settings,
        versions=versions(),
        seconds=round(time.perf_counter() - began, 3),
    )
    workers.main_alone(lambda: _save(record, classifier, directory_of(str(model)), target, overwrite))
    workers.main_alone(state.forget)
    return record


def _save(record: Record, classifier: Classifier, source: Path | None, target: Path, overwrite: bool) -> None:
    """Write the checkpoint, its record and its card."""
    with saving.new_checkpoint(target, overwrite) as directory:
        saving.write(directory, classifier.model, classifier.tokenizer)
        write_companions(directory, record, source, classifier.model)


def _one_task(name: str) -> Task:
    tasks = chosen(name)
    if len(tasks) > 1 or tasks[0].key not in TASKS:
        raise PlanError(f"a model is fine-tuned on one task, one of {', '.join(TASKS)}. Got {name!r}.")
    return tasks[0]


def _labelled(rows: Rows) -> Rows:
    if rows.labels is None:
        raise LpCompressError(f"{rows.task.key}, {rows.split}: rows to train on must have labels. These have none.")
    return rows


def _labels(task: Task, before: Outcome | None) -> LabelMap:
    """Return what the outputs mean: what they meant before, for a new head the data set's order."""
    return before.labels if before else LabelMap(tuple(range(len(task.classes))) or None, "new head")
