"""A task put to a model: both loaded when needed, tokenised once, outcomes kept for a resumed run."""

import copy
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from lpcompress.checkpoints import files
from lpcompress.errors import LpCompressError, MissingCheckpointError, PlanError
from lpcompress.evaluation.classifier import Classifier, load_classifier
from lpcompress.evaluation.prediction import Encoded, encode, logits
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, Outcome, TaskResult, compare
from lpcompress.evaluation.store import Store
from lpcompress.glue.data import HUB, Rows, load_rows
from lpcompress.glue.labels import LabelMap, decide
from lpcompress.glue.metrics import compute, merged
from lpcompress.glue.probe import PROBE_ROWS
from lpcompress.glue.tasks import TASKS, Task
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent

Prepare = Callable[[Any, Any, Progress], dict[str, Any]]


@dataclass(frozen=True)
class Variant:
    """Something to make of a model before it is scored again.

    Attributes
    ----------
    name : str
    prepare : callable (model, tokenizer, progress) -> dict
        Changes the model in place and says what was done; may replace modules, must not write into tensors.
    key : dict
        What the result depends on, for the store.
    """

    name: str
    prepare: Prepare
    key: dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """What all tasks of a run share.

    Attributes
    ----------
    workers : Workers
    data : str
        `hub` or a directory.
    limit : int or None
        Only so many rows of each split.
    batch_size : int
    label_map : Path or None
    primary : dict of str to str
        Task -> the one metric that is its score.
    seed : int
        Of the bootstrap.
    store : Store or None
    context : dict
        What else the predictions depend on, for the store: versions.
    progress : callable (description, done, total)
    """

    workers: Workers
    data: str = HUB
    limit: int | None = None
    batch_size: int = 32
    label_map: Path | None = None
    primary: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    store: Store | None = None
    context: dict[str, Any] = field(default_factory=dict)
    progress: Progress = silent


@dataclass(frozen=True)
class Reading:
    """What the outputs of a baseline mean: with the same names, those of a model made from it mean the same."""

    names: dict[int, str]
    labels: LabelMap


class Examination:
    """A task and a model; rows are read, the model loaded and the rows tokenised once, when first needed.

    Parameters
    ----------
    task : Task
    model : str
        Hub id or directory.
    setup : Setup
    baseline : Reading, optional
        Of the model that this one was made from. Then its own scores never decide what its outputs mean.
    head_seed : int, optional
        See `load_classifier`.
    """

    def __init__(
        self, task: Task, model: str, setup: Setup, baseline: Reading | None = None, head_seed: int | None = None
    ) -> None:
        self.task, self._model, self._setup, self._baseline = task, model, setup, baseline
        self._head_seed = head_seed

    @cached_property
    def splits(self) -> list[Rows]:
        """The rows of the splits that are scored."""
        read = partial(load_rows, self.task, source=self._setup.data, limit=self._setup.limit)
        return self._setup.workers.together(lambda: [read(split) for split in self.task.splits])

    @cached_property
    def classifier(self) -> Classifier:
        """The model, on the device."""
        rows = sum(map(len, self.splits))  # read first: that is quick and fails before the long work
        self._setup.progress(f"{self.task.key}: loading {self._model} for {rows:,} rows")
        loaded = self._setup.workers.together(lambda: load_classifier(self._model, self.task, self._head_seed))
        loaded.model.to(self._setup.workers.device)
        return loaded

    @cached_property
    def _encoded(self) -> list[Encoded]:
        return [encode(self.classifier.tokenizer, rows, self._setup.batch_size) for rows in self.splits]

    def plain(self) -> Outcome:
        """Return the outcome of the model as it stands."""
        return self._kept({}, lambda: self.outcome(self.classifier.model, self._read))

    def made(self, variant: Variant, plain: Outcome) -> TaskResult:
        """Return the result of what a variant makes of the model, its outputs read as the model's own."""

        def make() -> Outcome:
            twin, tokenizer = twin_of(self.classifier.model), self.classifier.tokenizer
            tell = self._setup.progress.under(f"{self.task.key}: {variant.name}: ")
            done = self._setup.workers.together(lambda: variant.prepare(twin, tokenizer, tell))
            return self.outcome(twin, lambda _: labels_of(plain), done, variant.name)

        return self.compared(self._kept(variant.key, make), plain)

    def outcome(
        self,
        model: Any,
        read: Callable[[list[np.ndarray]], LabelMap],
        compression: dict[str, Any] | None = None,
        name: str = "dense",
    ) -> Outcome:
        """Score a model on all splits; `read` tells from the logits what the outputs mean."""
        began = time.perf_counter()
        values = self._logits(model, name)
        labels = read(values)
        predictions = {rows.split: labels.predictions(part) for rows, part in zip(self.splits, values, strict=True)}
        metrics = {
            rows.split: compute(self.task, predictions[rows.split], rows.labels)
            for rows in self.splits
            if rows.labels is not None
        }
        return Outcome(
            model=self.classifier.name,
            predictions={split: part.tolist() for split, part in predictions.items()},
            metrics=merged(metrics, self.task) if metrics else {},
            labels={"order": labels.order and list(labels.order), "decided_by": labels.decided_by},
            compression=compression,
            seconds=round(time.perf_counter() - began, 3),
        )

    def compared(self, outcome: Outcome, baseline: Outcome | None = None) -> TaskResult:
        """Return the result of an outcome on this task's rows."""
        return compare(self.task, self.splits, outcome, baseline, self._setup.primary, self._setup.seed)

    def reading(self, plain: Outcome) -> Reading:
        """Return what the model's outputs mean, for the models made from it."""
        return Reading(self.classifier.model.config.id2label, labels_of(plain))

    def _read(self, values: list[np.ndarray]) -> LabelMap:
        config, baseline = self.classifier.model.config, self._baseline
        if baseline and baseline.names == config.id2label:
            return baseline.labels
        probe, first = partial(self._probe, values), self.splits[0].labels
        uncompressed = not (baseline or files.is_compressed(config))
        answers = (values[0], first) if uncompressed and first is not None else None
        return decide(self.task, config, self.classifier.name, probe, self._setup.label_map, answers)

    def _probe(self, values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and labels of enough rows to tell what the outputs of an uncompressed model mean."""
        classifier, rows = self.classifier, self.splits[0]
        if self._baseline or files.is_compressed(classifier.model.config):
            raise LpCompressError(
                f"{classifier.name}: its outputs have no names that {self.task.key} knows, and a compressed model's"
                " own scores must not decide what they mean. Give the model that it was made from with --baseline, or"
                " --label-map FILE."
            )
        if self.task.head or (self._setup.limit or PROBE_ROWS) < PROBE_ROWS:
            task = TASKS[self.task.head or self.task.key]
            rows = load_rows(task, task.splits[0], self._setup.data, PROBE_ROWS)
            encoded = encode(classifier.tokenizer, rows, self._setup.batch_size)
            values = [logits(classifier.model, encoded, self._setup.workers)]
        if rows.labels is None:
            raise LpCompressError(f"{self.task.key}: rows must have labels. Those of {rows.split} have none.")
        return values[0][:PROBE_ROWS], rows.labels[:PROBE_ROWS]

    def _logits(self, model: Any, name: str) -> list[np.ndarray]:
        """Return the logits of every split."""
        values = []
        for rows, encoded in zip(self.splits, self._encoded, strict=True):
            split = f", {rows.split}" if len(self.splits) > 1 else ""
            tell = partial(self._setup.progress, f"{self.task.key}: {name}{split}")
            values.append(logits(model, encoded, self._setup.workers, tell))
        return values

    def _kept(self, extra: dict[str, Any], make: Callable[[], Outcome]) -> Outcome:
        """Return the outcome that an earlier run kept, else make it and keep it."""
        store, workers = self._setup.store, self._setup.workers
        if store is None:
            return make()
        key = self._key() | extra
        kept = workers.from_main(store.recall(self.task.key, key) if workers.is_main else None)
        if kept:
            return kept
        outcome = make()
        workers.main_alone(lambda: store.keep(self.task.key, key, outcome))
        return outcome

    def _key(self) -> dict[str, Any]:
        """Return all that the predictions of the model as it stands depend on."""
        setup, baseline = self._setup, self._baseline
        return {
            "task": self.task.key,
            "model": self.classifier.name,
            "model_fingerprint": self.classifier.fingerprint,
            "data": [rows.fingerprint for rows in self.splits],
            "limit": setup.limit,
            "batch_size": setup.batch_size,
            "label_map": setup.label_map and setup.label_map.read_text(encoding="utf-8"),
            "baseline_labels": baseline and [baseline.names, baseline.labels.order],
            "device": setup.workers.device.type,
            **setup.context,
        }


def labels_of(outcome: Outcome) -> LabelMap:
    """Return what the outputs meant when an outcome was made."""
    order = outcome.labels["order"]
    return LabelMap(order and tuple(order), outcome.labels["decided_by"])


def twin_of(model: Any) -> Any:
    """Return a copy of a model that shares its tensors: modules can be replaced in it, at no memory."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


ITSELF = ""  # name of the result of a model that nothing was made of


def evaluate_task(
    task: Task, model: str, setup: Setup, variants: Sequence[Variant] = (), baseline: str | None = None
) -> dict[str, TaskResult]:
    """Score a model on a task, and all that is to be compared with it; what fails is marked, never raised.

    Parameters
    ----------
    task : Task
    model : str
        Hub id or directory.
    setup : Setup
    variants : sequence of Variant
        Each is made of `model`, which is their baseline and is scored once.
    baseline : str, optional
        The model that `model` was made from; not together with variants.

    Returns
    -------
    dict of str to TaskResult
        By the variants' names; under `ITSELF` where there are none.

    Raises
    ------
    PlanError
        If an option is wrong, which would fail every task.
    """
    names = [variant.name for variant in variants] or [ITSELF]
    exam = Examination(task, baseline or model, setup)
    plain = _attempt(task, model, exam.plain)
    if isinstance(plain, TaskResult):
        return dict.fromkeys(names, plain)
    if variants:
        return {v.name: _attempt(task, model, partial(exam.made, v, plain)) for v in variants}
    if baseline is None:
        return {ITSELF: _attempt(task, model, lambda: exam.compared(plain))}
    other = Examination(task, model, setup, baseline=exam.reading(plain))
    return {ITSELF: _attempt(task, model, lambda: exam.compared(other.plain(), plain))}


def _attempt(task: Task, model: str, work: Callable[[], Any]) -> Any:
    """Return what `work` returns, or a result that says why there is none."""
    try:
        return work()
    except PlanError:
        raise
    except MissingCheckpointError as error:
        return TaskResult(NOT_AVAILABLE, model, reason=str(error))
    except (LpCompressError, OSError) as error:
        return TaskResult(FAILED, model, reason=str(error))
    except Exception as error:  # a bug, or no memory left: the other tasks go on, the traceback is kept
        logging.getLogger(__name__).exception("%s failed", task.key)
        return TaskResult(FAILED, model, reason=f"{type(error).__name__}: {error}")
