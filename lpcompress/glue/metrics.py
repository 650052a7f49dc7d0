"""GLUE's metrics, in points from 0 to 100: `evaluate` metrics over scikit-learn and SciPy, and quick NumPy twins."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import NearConstantInputWarning, pearsonr, rankdata, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from lpcompress.errors import PlanError
from lpcompress.glue.statistics import Statistic
from lpcompress.glue.tasks import Task

POSITIVE = 1  # F1 is that of class 1


def _unless_constant(statistic: Statistic) -> Statistic:
    """Make a statistic 0 where one side is constant and it is not defined."""

    def defined(predictions: np.ndarray, labels: np.ndarray) -> float:
        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return 0.0
        return float(statistic(predictions, labels))

    return defined


def _f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(f1_score(labels == POSITIVE, predictions == POSITIVE, zero_division=0.0))


def _pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NearConstantInputWarning)  # of a ruined model: its score says so
        return float(pearsonr(predictions, labels).statistic)


REFERENCES: dict[str, Statistic] = {
    "accuracy": lambda predictions, labels: float(accuracy_score(labels, predictions)),
    "f1": _f1,
    "matthews": _unless_constant(lambda predictions, labels: matthews_corrcoef(labels, predictions)),
    "pearson": _unless_constant(_pearson),
    "spearman": _unless_constant(lambda predictions, labels: spearmanr(predictions, labels).statistic),
}


class GlueMetric(evaluate.Metric):
    """The metrics of one GLUE task; works offline and writes no file.

    Parameters
    ----------
    task : Task
    **settings
        Those of `evaluate.Metric`.
    """

    def __init__(self, task: Task, **settings: Any) -> None:
        self.task = task
        super().__init__(config_name=task.key, keep_in_memory=True, **settings)

    def _build_data_dir(self) -> str:
        return ""  # everything is kept in memory, so there is no directory to make

    def _info(self) -> evaluate.MetricInfo:
        kind = datasets.Value("int64" if self.task.classes else "float64")
        return evaluate.MetricInfo(
            description=f"{', '.join(self.task.metrics)} of GLUE's {self.task.spelling}, in points",
            citation="Wang et al., GLUE: A Multi-Task Benchmark and Analysis Platform, 2018. arXiv:1804.07461",
            inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),  # format "numpy" would halve floats
        )

    def _compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        predictions, references = np.asarray(predictions), np.asarray(references)
        return {name: 100 * REFERENCES[name](predictions, references) for name in self.task.metrics}


def compute(task: Task, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the metrics of a task on the rows of one split.

    Parameters
    ----------
    task : Task
    predictions : array of shape (n,)
        Numbers of classes, or the values of a regression.
    labels : array of shape (n,)

    Returns
    -------
    dict of str to float
        In points. Where a metric is not defined (a constant prediction has no correlation, no positive one no
        F1) it is 0, never NaN.
    """
    return GlueMetric(task).compute(predictions=predictions, references=labels)


def merged(by_split: Mapping[str, Mapping[str, float]], task: Task) -> dict[str, float]:
    """Return the metrics of all splits of a task under the names of `task.metric_keys`."""
    values = [by_split[split][name] for split in task.splits for name in task.metrics]
    return dict(zip(task.metric_keys, values, strict=True))


def score(metrics: Mapping[str, float], names: Iterable[str] | None = None) -> float:
    """Return the score of a task, in points: the mean of its metrics, or of those named.

    Raises
    ------
    PlanError
        If a name is not among the metrics.
    """
    names = tuple(names or metrics)
    for name in names:
        if name not in metrics:
            raise PlanError(f"a primary metric must be one of {', '.join(metrics)} for this task. Got {name!r}.")
    return float(np.mean([metrics[name] for name in names]))


def _quick_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    predicted, actual = predictions == POSITIVE, labels == POSITIVE
    total = np.count_nonzero(predicted) + np.count_nonzero(actual)
    return float(2 * np.count_nonzero(predicted & actual) / total) if total else 0.0


def _quick_pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    a, b = predictions - predictions.mean(), labels - labels.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


QUICK: dict[str, Statistic] = {
    "accuracy": lambda predictions, labels: float(np.mean(predictions == labels)),
    "f1": _quick_f1,
    "matthews": _unless_constant(_quick_pearson),  # of two classes, Matthews' is Pearson's coefficient of 0 and 1
    "pearson": _unless_constant(_quick_pearson),
    "spearman": _unless_constant(lambda predictions, labels: _quick_pearson(rankdata(predictions), rankdata(labels))),
}


def statistic(task: Task, name: str) -> Statistic:
    """Return a metric as a function that is cheap enough for a bootstrap.

    Parameters
    ----------
    task : Task
    name : str
        One of `task.metrics`.

    Returns
    -------
    callable
        (predictions, labels), two arrays of shape (n,) -> points; equal to `compute` up to rounding.
    """
    if name not in task.metrics:
        raise PlanError(f"a metric of {task.key} must be one of {', '.join(task.metrics)}. Got {name!r}.")
    return lambda predictions, labels: 100 * QUICK[name](predictions, labels)
