"""Measure what a rival does to a classifier: its logits, its score, and the error of its word embedding."""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpcompress.config.scoring import Scoring
from lpcompress.evaluation.examination import Examination
from lpcompress.evaluation.outputs import read_outputs
from lpcompress.evaluation.results import Outcome
from lpcompress.evaluation.setup import Setup
from lpcompress.factor.bound import least_errors
from lpcompress.factor.norms import relative_error
from lpcompress.glue.tasks import TASKS
from lpcompress.processes import Workers
from lpcompress.surgery.finding import find_layers
from rivals.rival import Rival, Scope, Subject


def moved(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Return the mean squared change of logits over their variance, with its standard error over rows.

    Parameters
    ----------
    before, after : ndarray of shape (n, outputs)

    Notes
    -----
    Standard error of a ratio of means (Cochran, Sampling Techniques, section 2.11).

    Examples
    --------
    >>> before = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    >>> moved(before, before + 0.5)
    (0.25, 0.0)
    """
    changes = np.square(after.astype(np.float64) - before).sum(1)
    spreads = np.square(before.astype(np.float64) - before.mean(0)).sum(1)
    quotient = changes.mean() / spreads.mean()
    residuals = changes - quotient * spreads
    return float(quotient), float(residuals.std() / (np.sqrt(len(changes)) * spreads.mean()))


@dataclass
class Examiner:
    """One task: its classifier, loaded and scored once, against which rivals are measured.

    Attributes
    ----------
    task : str
    model : str
        Directory of the classifier.
    data : str
        Directory of GLUE.
    limit : int
        Rows that are scored.
    """

    task: str
    model: str
    data: str
    limit: int

    def measure(self, rival: Rival, scope: Scope, share: float | None) -> dict[str, Any]:
        """Compress a copy of the classifier, and return bytes, setting and what was measured, ready for JSON."""
        classifier = self._exam.classifier
        subject = Subject(copy.deepcopy(classifier.model), classifier.tokenizer, self.task, scope, self.data)
        before = subject.dense_bytes()
        fit = rival.fit(subject, share)
        found: dict[str, Any] = {"bytes": fit.n_bytes, "share": fit.n_bytes / before, "setting": fit.setting}
        if not scope.whole:
            found["error"] = relative_error(self._matrix, embedding_of(subject.model))
            found["bound"] = least_errors(self._matrix, [fit.n_bytes], lengths_known=False)[0]
        return found | (self._scores(subject.model) if scope.scored else {})

    def _scores(self, model: Any) -> dict[str, Any]:
        plain, logits = self._plain
        outcome, after = self._outcome(model, plain)
        result = self._exam.compared(outcome, plain)
        change, error = moved(logits, after)
        return {"moved": change, "moved_se": error, "drop": result.drop, "drop_se": result.se, "n": result.n}

    def _outcome(self, model: Any, plain: Outcome | None = None) -> tuple[Outcome, np.ndarray]:
        """Return the outcome of a model and its logits; without `plain` it is the dense model."""
        seen: list[np.ndarray] = []

        def read(values: list[np.ndarray]) -> Any:
            seen.append(np.concatenate(values))
            exam = self._exam
            return plain.labels if plain else read_outputs(exam.classifier, exam.splits[0], values[0], self._setup)

        return self._exam.outcome(model, read), seen[0]

    @cached_property
    def _plain(self) -> tuple[Outcome, np.ndarray]:
        return self._outcome(self._exam.classifier.model)

    @cached_property
    def _setup(self) -> Setup:
        return Setup(Workers("cpu"), Scoring(data=self.data, limit=self.limit))

    @cached_property
    def _exam(self) -> Examination:
        return Examination(TASKS[self.task], self.model, self._setup)

    @cached_property
    def _matrix(self) -> Tensor:
        [layer] = find_layers(self._exam.classifier.model, ["embedding"]).values()
        return layer.matrix()


@torch.no_grad()
def embedding_of(model: Any) -> Tensor:
    """Return the word embedding of a model, dense or compressed: its rows looked up, shape (n, d)."""
    module = model.get_input_embeddings()
    return module(torch.arange(module.num_embeddings))


def examiners(tasks: list[str], models: Path, data: str, limit: int) -> dict[str, Examiner]:
    """Return an examiner for each task."""
    return {task: Examiner(task, str(models / task), data, limit) for task in tasks}
