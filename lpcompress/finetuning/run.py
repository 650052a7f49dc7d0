"""Fine-tune a dense or compressed classifier on a GLUE task: scored before and after, a checkpoint like any other."""

import json
import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lpcompress import hub
from lpcompress.atomic import write_atomically
from lpcompress.checkpoints import files, saving
from lpcompress.config.recipe import Recipe
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.evaluation.benchmark import checked_count, versions
from lpcompress.evaluation.classifier import Classifier
from lpcompress.evaluation.examination import Examination, Setup, labels_of
from lpcompress.evaluation.prediction import encode, logits
from lpcompress.evaluation.results import Outcome, TaskResult
from lpcompress.finetuning.learner import Learner, Teacher
from lpcompress.finetuning.report import write_companions
from lpcompress.finetuning.training import Examples, frozen, train
from lpcompress.glue.data import HUB, Rows, load_rows
from lpcompress.glue.labels import LabelMap
from lpcompress.glue.metrics import compute, score
from lpcompress.glue.tasks import TASKS, Task, chosen
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent

TRAIN = "train"
STATE = ".training"  # ends the name of the directory, beside the output, from which a run is resumed
SETTINGS = "settings.json"


def finetune(
    model: str | Path,
    task: str,
    out: str | Path,
    *,
    data: str | Path = HUB,
    split: str = TRAIN,
    train_limit: int | None = None,
    limit: int | None = None,
    distill: str | Path | None = None,
    label_map: str | Path | None = None,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
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
    data : str or Path, default="hub"
        `hub`, or a directory with GLUE.
    split : str, default="train"
        The rows to train on.
    train_limit, limit : int, optional
        Only so many of the first rows for training, and for scoring.
    distill : str or Path, optional
        A model fine-tuned on the task, mostly the dense one, whose logits and hidden states are followed.
    label_map : str or Path, optional
        See `eval_glue`.
    device : str, optional
        By default a GPU if there is one.
    resume : bool, default=False
        Go on with a run of the same settings that was ended.
    overwrite : bool, default=False
        Replace the checkpoint in `out`, and forget what an ended run left beside it.
    progress : callable (description, done, total), optional
    **options
        Fields of `recipe.Recipe`: epochs, max_steps, learning_rate, batch_size, freeze, mixed_precision, seed, ...

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
    began, recipe, wanted = time.perf_counter(), Recipe(**options), _one_task(task)
    checked_count("train_limit", train_limit)
    target = Path(out).resolve()
    setup = Setup(
        Workers(device),
        str(data),
        checked_count("limit", limit),
        label_map=Path(label_map) if label_map else None,
        progress=progress or silent,
    )
    setup.workers.main_alone(lambda: saving.refuse_existing(target, overwrite))
    if recipe.mixed_precision == "fp16" and setup.workers.device.type == "cpu":
        raise LpCompressError("mixed_precision fp16 needs a GPU; bf16 works on a CPU too. This run is on a CPU.")
    with nullcontext() if data != HUB else hub.asked_once():
        rows = _labelled(load_rows(wanted, split, data, train_limit))
        exam = Examination(wanted, str(model), setup, head_seed=recipe.seed)
        before = None if exam.classifier.new_head else exam.plain()
        guide = Examination(wanted, str(distill), setup) if distill else None
        guided = guide and guide.plain()
    classifier, labels = exam.classifier, _labels(wanted, before)
    settings = _settings(recipe, rows, classifier, labels, guide.classifier if guide else None, setup)
    state = target.with_name(target.name + STATE)
    teacher = _teacher(guide.classifier, labels_of(guided), classifier, labels) if guide and guided else None
    with frozen(classifier.model, recipe.freeze):
        setup.workers.main_alone(lambda: _prepare(state, settings, resume, overwrite))
        done = _train(classifier, rows, labels, teacher, recipe, state, setup)
    _refuse_diverged(classifier, recipe, state, setup)
    after = exam.outcome(classifier.model, lambda _: labels, name="fine-tuned")
    document = {
        "model": str(model),
        "task": wanted.key,
        "out": str(out),
        "head": "new" if classifier.new_head else "kept",
        "distill": distill and str(distill),
        **_scores(exam.compared(after, before), before),
        "teacher_score": guide and guided and guide.compared(guided).score,
        "train_score": _train_score(wanted, classifier, rows, labels, setup),
        **done,
        "settings": settings,
        "versions": versions(),
        "seconds": round(time.perf_counter() - began, 3),
    }

    def save() -> None:
        with saving.new_checkpoint(target, overwrite) as directory:
            saving.write(directory, classifier.model, classifier.tokenizer)
            write_companions(directory, document, files.directory_of(str(model)), classifier.model)
        shutil.rmtree(state, ignore_errors=True)

    setup.workers.main_alone(save)
    return document


def _one_task(name: str) -> Task:
    tasks = chosen(name)
    if len(tasks) > 1 or tasks[0].key not in TASKS:
        raise PlanError(f"a model is fine-tuned on one task, one of {', '.join(TASKS)}. Got {name!r}.")
    return tasks[0]


def _settings(
    recipe: Recipe, rows: Rows, classifier: Classifier, labels: LabelMap, teacher: Classifier | None, setup: Setup
) -> dict[str, Any]:
    """Return what the trained weights depend on: a resumed run must have the same."""
    return asdict(recipe) | {
        "freeze": list(recipe.freeze),
        "task": rows.task.key,
        "split": rows.split,
        "train_rows": len(rows),
        "data": rows.fingerprint,
        "model": classifier.fingerprint,
        "outputs": labels.order and list(labels.order),
        "teacher": teacher and teacher.fingerprint,
        "processes": setup.workers.count,
    }


def _labelled(rows: Rows) -> Rows:
    if rows.labels is None:
        raise LpCompressError(f"{rows.task.key}, {rows.split}: rows to train on must have labels. These have none.")
    return rows


def _labels(task: Task, before: Outcome | None) -> LabelMap:
    """Return what the outputs mean: what they meant before, for a new head the data set's order."""
    if before:
        return labels_of(before)
    return LabelMap(tuple(range(len(task.classes))) or None, "new head")


def _prepare(state: Path, settings: dict[str, Any], resume: bool, overwrite: bool) -> None:
    """Make the directory of a run, or check that the one that is there is of the same settings."""
    path, found = state / SETTINGS, state.exists()
    if found and resume:
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        changed = [key for key, value in settings.items() if kept.get(key) != value]
        if changed:
            raise LpCompressError(
                f"{state} is of a run with other settings ({', '.join(changed)}). Repeat that run's options, or leave"
                " out --resume and pass --overwrite to begin again."
            )
        return
    if found and not overwrite:
        raise LpCompressError(
            f"{state} is of a run that was ended. Pass --resume to go on, or --overwrite to forget it."
        )
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    write_atomically(path, json.dumps(settings, indent=2) + "\n")


def _teacher(guide: Classifier, meant: LabelMap, classifier: Classifier, labels: LabelMap) -> Teacher:
    """Return the teacher with its outputs in the student's order."""
    if guide.tokenizer.get_vocab() != classifier.tokenizer.get_vocab():
        raise LpCompressError(
            f"{guide.name}: a teacher must have the tokenizer of {classifier.name}. Name what it was made from."
        )
    outputs = [meant.order.index(label) for label in labels.order] if meant.order and labels.order else [0]
    return Teacher(guide.model.float(), outputs)


def _train(
    classifier: Classifier,
    rows: Rows,
    labels: LabelMap,
    teacher: Teacher | None,
    recipe: Recipe,
    state: Path,
    setup: Setup,
) -> dict[str, Any]:
    """Train the model in place, in single precision; say how much of it and how far."""
    model, dtype = classifier.model, classifier.model.dtype
    model.float()
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    learner = Learner(model, recipe, teacher)
    examples = Examples(encode(classifier.tokenizer, rows, recipe.batch_size), _targets(rows, labels))
    loss = train(learner, examples, state, setup.workers.device, setup.progress)
    model.to(setup.workers.device, dtype).eval()
    if labels.order:  # so that nothing need be probed: a compressed model must not be
        model.config.id2label = {i: rows.task.classes[label] for i, label in enumerate(labels.order)}
        model.config.label2id = {name: i for i, name in model.config.id2label.items()}
    return {"train_loss": loss, "trained_parameters": trained, "follows_hidden_states": learner.follows_hidden}


def _refuse_diverged(classifier: Classifier, recipe: Recipe, state: Path, setup: Setup) -> None:
    """Raise if training has left the finite numbers; there is nothing then that a run could be resumed from."""
    if all(bool(parameter.isfinite().all()) for parameter in classifier.model.parameters()):
        return
    setup.workers.main_alone(lambda: shutil.rmtree(state, ignore_errors=True))
    raise LpCompressError(
        f"training diverged: weights are NaN or infinite. Lower the learning rate, which is {recipe.learning_rate:g}."
    )


def _targets(rows: Rows, labels: LabelMap) -> np.ndarray:
    """Return the number of the output that each row's class is, or the values of a regression."""
    values = np.asarray(rows.labels)
    return np.argsort(labels.order)[values] if labels.order else values


def _train_score(task: Task, classifier: Classifier, rows: Rows, labels: LabelMap, setup: Setup) -> float:
    """Return the score on the training rows, by which runs can be chosen without a look at others."""
    values = logits(classifier.model, encode(classifier.tokenizer, rows, setup.batch_size), setup.workers)
    return score(compute(task, labels.predictions(values), np.asarray(rows.labels)))


def _scores(result: TaskResult, before: Outcome | None) -> dict[str, Any]:
    """Return the scores before and after, in points; `gain` is after minus before."""
    gained = None if result.drop is None else -result.drop
    return {
        "n": result.n,
        "metrics": result.metrics,
        "score": result.score,
        "score_before": result.baseline_score,
        "metrics_before": before and before.metrics,
        "gain": gained,
        "se": result.se,
    }
