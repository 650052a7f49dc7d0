"""Fine-tune a dense or compressed classifier on a GLUE task, scored before and after."""

import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from lpcompress import hub
from lpcompress.checkpoints import saving
from lpcompress.checkpoints.files import directory_of
from lpcompress.checkpoints.origins import located
from lpcompress.checkpoints.verification import Probe
from lpcompress.compression.lineage import inherited
from lpcompress.compression.report import CheckpointReport
from lpcompress.config.origin import Origin
from lpcompress.config.recipe import Recipe
from lpcompress.config.scoring import HUB, Scoring
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
from lpcompress.glue.data import Rows, load_rows
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
    verify: bool = True,
    progress: Callback | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    r"""Fine-tune a classifier on a GLUE task, score it before and after, and write a checkpoint.

    All parameters are trained except those that `freeze` matches. A compressed layer stays compressed: its codes and
    bases are trained or, of a coded layer, whose codes are integers, its scales and levels. A model without a head gets
    a new one.

    Parameters
    ----------
    model : str or Path
        Hub id or directory of a dense or compressed model.
    task : str
        One of the nine tasks, such as "rte".
    out : str or Path
        Directory for the checkpoint. During the run, the state that it can be resumed from is kept beside it, in a
        directory whose name ends in `.training`.
    recipe : Recipe, optional
        How to train.
    scoring : Scoring, optional
        Where the data is, and how to score before and after.
    distill : str or Path, optional
        Teacher: a model fine-tuned on the task, usually the dense one. The loss then includes the distance from its
        logits and hidden states.
    device : str, optional
        Such as "cpu" or "cuda:1". By default a GPU if there is one.
    resume : bool, default=False
        Continue an interrupted run with the same settings.
    overwrite : bool, default=False
        Replace the checkpoint in `out`, and delete the state of an interrupted run.
    verify : bool, default=True
        Load the new checkpoint and compare it with the model in memory before it is put in place.
    progress : callable (description, done, total), optional
        `done` and `total` are None if unknown.
    revision, subfolder : str, optional
        Branch, tag or commit of `model` on the Hub; folder that holds the checkpoint.
    **options
        Fields of `Recipe` (epochs, max_steps, learning_rate, batch_size, freeze, mixed_precision, split, train_limit,
        seed, ...) and of `Scoring` (data, limit, label_map, ...). They override the fields of `recipe` and `scoring`;
        a name that both have sets the recipe's field.

    Returns
    -------
    dict
        The document that `finetune --json` prints: scores before (None with a new head) and after, in points (100
        times the metric), and the settings of the run.

    Raises
    ------
    PlanError
        If an option is invalid.
    LpCompressError
        If the model, the teacher or the rows cannot be read, training diverges, or the checkpoint cannot be written.

    References
    ----------
    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015: the loss with a teacher.

    Examples
    --------
    A random model and two rows, so that nothing is downloaded. For real ones leave out `data` and `split`.

    >>> import json, tempfile
    >>> from transformers import BertConfig, BertForSequenceClassification, BertTokenizer
    >>> scratch = tempfile.TemporaryDirectory()
    >>> home = Path(scratch.name)
    >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "sun"]
    >>> _ = BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(home / "model")
    >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    >>> config = BertConfig(vocab_size=7, id2label={0: "entailment", 1: "not_entailment"}, **sizes)
    >>> BertForSequenceClassification(config).save_pretrained(home / "model")
    >>> rows = [{"sentence1": "rain", "sentence2": word, "label": i} for i, word in enumerate(["rain", "sun"])]
    >>> (home / "rte").mkdir()
    >>> _ = (home / "rte" / "validation.jsonl").write_text("\n".join(map(json.dumps, rows)))
    >>> where = {"data": home, "split": "validation", "device": "cpu"}
    >>> done = finetune(home / "model", "rte", home / "tuned", max_steps=1, freeze=("embedding",), **where)
    >>> done["head"], done["settings"]["train_rows"], done["gain"] == done["score"] - done["score_before"]
    ('kept', 2, True)
    >>> (home / "tuned" / "finetuning.json").is_file()
    True
    >>> scratch.cleanup()
    """
    to_score = {key: options.pop(key) for key in [*options] if key in Scoring.model_fields.keys() - Recipe.model_fields}
    recipe, scoring = Recipe.of(recipe, options), Scoring.of(scoring, to_score)
    where: dict[str, Any] = {"device": device, "resume": resume, "overwrite": overwrite, "progress": progress}
    where["origin"] = Origin(revision=revision, subfolder=subfolder)
    return tune(model, task, out, recipe, scoring, distill=distill, verify=verify, **where).document()


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
    verify: bool = True,
    progress: Callback | None = None,
    origin: Origin | None = None,
) -> Record:
    """Do the work of `finetune` and return its record as an object.

    Parameters
    ----------
    model, task, out, recipe, scoring, distill, device, resume, overwrite, verify, progress
        As for `finetune`.
    origin : Origin, optional
        Which version of the model.

    Raises
    ------
    PlanError, LpCompressError
        As `finetune` does.
    """
    began, wanted, target = time.perf_counter(), _one_task(task), Path(out).resolve()
    refuse_unknown(scoring.primary)
    setup = Setup(Workers(device), scoring, progress=Progress.of(progress))
    workers, state, origin = setup.workers, State.of(target), origin or Origin()
    place = workers.together(lambda: located(str(model), **origin.given()))  # what is read: `model`, or that version
    sources = [place, str(distill)] if distill else [place]
    workers.main_alone(lambda: saving.refuse_existing(target, overwrite, sources))
    if recipe.mixed_precision == "fp16" and workers.device.type == "cpu":
        raise LpCompressError("mixed_precision fp16 needs a GPU; bf16 works on a CPU too. This run is on a CPU.")
    with nullcontext() if scoring.data != HUB else hub.asked_once():
        rows = _labelled(load_rows(wanted, recipe.split, scoring.data, recipe.train_limit))
        exam = Examination(wanted, str(model), setup, head_seed=recipe.seed, origin=origin)
        new_head = exam.classifier.new_head  # loads the model, and with it the report of one from the Hub
        report = workers.together(lambda: CheckpointReport.read(directory_of(place)))
        before = None if new_head else exam.plain()
        guide = Examination(wanted, str(distill), setup) if distill else None
        guided = guide.plain() if guide else None
    classifier, labels = exam.classifier, _labels(wanted, before)
    teacher = teacher_of(guide.classifier, guided.labels, classifier, labels) if guide and guided else None
    lesson = Lesson(classifier, rows, labels, recipe, teacher)
    settings = lesson.settings(guide.classifier.fingerprint if guide else None, workers.count)
    with ExitStack() as held:
        workers.main_alone(lambda: held.enter_context(state.claimed()))
        with frozen(classifier.model, recipe.freeze):
            workers.main_alone(lambda: state.prepare(settings, resume, overwrite))
            trained = lesson.train(state.directory, setup)
        if lesson.diverged:
            workers.main_alone(state.forget)  # a run cannot be resumed from this state
            raise LpCompressError(
                "training diverged: weights are NaN or infinite. Lower the learning rate, which is"
                f" {recipe.learning_rate:g}."
            )
        after = exam.outcome(classifier.model, lambda _: labels, name="fine-tuned")
        result = exam.compared(after, before)
        record = Record(
            model=str(model),
            origin=origin.given(),
            task=wanted.key,
            out=str(out),
            head="new" if classifier.new_head else "kept",
            distill=str(distill) if distill else None,
            n=result.n,
            metrics=result.metrics,
            score=result.score,
            score_before=result.baseline_score,
            metrics_before=before.metrics if before else None,
            gain=None if result.drop is None else 0.0 - result.drop,  # never -0.0
            se=result.se,
            teacher_score=guide.compared(guided).score if guide and guided else None,
            train_score=lesson.score(setup),
            trained=trained,
            settings=settings,
            versions=versions(),
            seconds=round(time.perf_counter() - began, 3),
        )
        workers.main_alone(lambda: _save(record, classifier, report, target, overwrite, sources, verify))
        workers.main_alone(state.forget)
        return record


def _save(
    record: Record,
    classifier: Classifier,
    report: CheckpointReport | None,
    target: Path,
    overwrite: bool,
    sources: Sequence[str],
    verify: bool,
) -> None:
    """Write the checkpoint, its record and its card."""
    probe = Probe.of(classifier.model) if verify else None
    with saving.new_checkpoint(target, overwrite, sources) as directory:
        written = saving.write(directory, classifier.model, classifier.tokenizer, source=sources[0], probe=probe)
        base = inherited(directory_of(sources[0]))
        write_companions(directory, record, report, classifier.model, written, base)


def _one_task(name: str) -> Task:
    tasks = chosen(name)
    if len(tasks) > 1 or tasks[0].key not in TASKS:
        raise PlanError(f"task must be one of {', '.join(TASKS)}: a model is fine-tuned on one task. Got {name!r}.")
    return tasks[0]


def _labelled(rows: Rows) -> Rows:
    if rows.labels is None:
        raise LpCompressError(f"{rows.task.key}, {rows.split}: training rows must have labels. These have none.")
    return rows


def _labels(task: Task, before: Outcome | None) -> LabelMap:
    """Return the meaning of the outputs: the same as before, or the data set's order for a new head."""
    return before.labels if before else LabelMap(tuple(range(len(task.classes))) or None, "new head")
