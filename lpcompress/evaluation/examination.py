"""Score one model on one task. Rows, model and tokens are loaded when first needed, and only once."""

import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np

from lpcompress.compression.records import CompressionReport
from lpcompress.config.origin import Origin
from lpcompress.evaluation.classifier import Classifier, load_classifier
from lpcompress.evaluation.comparison import compare
from lpcompress.evaluation.outputs import Reading, read_outputs
from lpcompress.evaluation.prediction import Encoded, encode, logits
from lpcompress.evaluation.results import Outcome, TaskResult
from lpcompress.evaluation.setup import Setup, Variant
from lpcompress.evaluation.twins import twin_of
from lpcompress.glue.data import Rows, load_rows
from lpcompress.glue.labels import LabelMap
from lpcompress.glue.metrics import compute, merged
from lpcompress.glue.tasks import Task


class Examination:
    """The scoring of one model, and of variants of it, on one task.

    Parameters
    ----------
    task : Task
    model : str
        Hub id or directory.
    setup : Setup
    baseline : Reading, optional
        Meaning of the outputs of the model that this one was made from. This model's own scores then never decide
        what its outputs mean.
    head_seed, origin : int, Origin, optional
        See `load_classifier`.
    """

    def __init__(
        self,
        task: Task,
        model: str,
        setup: Setup,
        baseline: Reading | None = None,
        *,
        head_seed: int | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.task, self._model, self._setup, self._baseline = task, model, setup, baseline
        self._load = partial(load_classifier, model, task, head_seed, origin)

    @cached_property
    def splits(self) -> list[Rows]:
        """The rows of the splits that are scored."""
        scoring = self._setup.scoring
        read = partial(load_rows, self.task, source=scoring.data, limit=scoring.limit)
        return self._setup.workers.together(lambda: [read(split) for split in self.task.splits])

    @cached_property
    def classifier(self) -> Classifier:
        """The model, on the device."""
        rows = sum(map(len, self.splits))  # read first: it is quick, and errors come before the long work
        self._setup.progress(f"{self.task.key}: loading {self._model} for {rows:,} rows")
        loaded = self._setup.workers.together(self._load)
        loaded.model.to(self._setup.workers.device)
        return loaded

    @cached_property
    def _encoded(self) -> list[Encoded]:
        return [encode(self.classifier.tokenizer, rows, self._setup.scoring.batch_size) for rows in self.splits]

    def plain(self) -> Outcome:
        """Return the outcome of the unchanged model."""
        return self._kept({}, lambda: self.outcome(self.classifier.model, self._read))

    def variant(self, variant: Variant, plain: Outcome) -> TaskResult:
        """Return the result of a variant of the model; its outputs mean what the model's own mean."""

        def score() -> Outcome:
            twin, tokenizer = twin_of(self.classifier.model), self.classifier.tokenizer
            tell = self._setup.progress.under(f"{self.task.key}: {variant.name}: ")
            done = self._setup.workers.together(lambda: variant.prepare(twin, tokenizer, tell))
            return self.outcome(twin, lambda _: plain.labels, done, variant.name)

        return self.compared(self._kept(variant.key, score), plain)

    def outcome(
        self,
        model: Any,
        read: Callable[[list[np.ndarray]], LabelMap],
        compression: CompressionReport | None = None,
        name: str = "dense",
    ) -> Outcome:
        """Score a model on all splits.

        Parameters
        ----------
        model : PreTrainedModel
            The model of this object, or one made from it.
        read : callable
            Takes the logits (n, outputs) of every split and returns what the outputs mean.
        compression : CompressionReport, optional
            Record of the model's compression.
        name : str
            Name of the model in progress messages.
        """
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
            labels=labels,
            compression=compression,
            seconds=round(time.perf_counter() - began, 3),
        )

    def compared(self, outcome: Outcome, baseline: Outcome | None = None) -> TaskResult:
        """Compare an outcome with a baseline's on this task's rows."""
        scoring = self._setup.scoring
        return compare(self.task, self.splits, outcome, baseline, scoring.primary, scoring.seed)

    def reading(self, plain: Outcome) -> Reading:
        """Return the meaning of the model's outputs, for models made from it."""
        return Reading(self.classifier.model.config.id2label, plain.labels)

    def _read(self, values: list[np.ndarray]) -> LabelMap:
        return read_outputs(self.classifier, self.splits[0], values[0], self._setup, self._baseline)

    def _logits(self, model: Any, name: str) -> list[np.ndarray]:
        """Return the logits of every split."""
        values, progress = [], self._setup.progress.under(f"{self.task.key}: ")
        for rows, encoded in zip(self.splits, self._encoded, strict=True):
            split = f", {rows.split}" if len(self.splits) > 1 else ""
            values.append(logits(model, encoded, self._setup.workers, progress, name + split))
        return values

    def _kept(self, extra: dict[str, Any], make: Callable[[], Outcome]) -> Outcome:
        """Return the outcome that an earlier run stored, or compute and store it."""
        store = self._setup.store
        return store.kept(self.task.key, self._key() | extra, self._setup.workers, make) if store else make()

    def _key(self) -> dict[str, Any]:
        """Return everything that the predictions of the unchanged model depend on."""
        scoring, baseline = self._setup.scoring, self._baseline
        return {
            "task": self.task.key,
            "model": self.classifier.name,
            "model_fingerprint": self.classifier.fingerprint,
            "data": [rows.fingerprint for rows in self.splits],
            "limit": scoring.limit,
            "batch_size": scoring.batch_size,
            "label_map": scoring.label_map and scoring.label_map.read_text(encoding="utf-8"),
            "baseline_labels": baseline and [baseline.names, baseline.labels.order],
            "device": self._setup.workers.device.type,
            **self._setup.context,
        }
