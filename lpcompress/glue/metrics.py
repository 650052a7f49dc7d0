"""GLUE's metrics in points (0 to 100): from scikit-learn and SciPy, and faster ones for the bootstrap."""

import warnings
from collections.abc import Iterable, Mapping

import numpy as np
from scipy.stats import NearConstantInputWarning, pearsonr, rankdata, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from lpcompress.errors import PlanError
from lpcompress.glue.statistics import Statistic
from lpcompress.glue.tasks import Task

POSITIVE = 1  # F1 is that of class 1


def _unless_constant(statistic: Statistic) -> Statistic:
    """Return a statistic that is 0 where the given one is undefined because one side is constant."""

    def defined(predictions: np.ndarray, labels: np.ndarray) -> float:
        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return 0.0
        return float(statistic(predictions, labels))

    return defined


def _f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(f1_score(labels == POSITIVE, predictions == POSITIVE, zero_division=0.0))


def _pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NearConstantInputWarning)  # from a ruined model; its score shows it
        return float(pearsonr(predictions, labels).statistic)


REFERENCES: dict[str, Statistic] = {
    "accuracy": lambda predictions, labels: float(accuracy_score(labels, predictions)),
    "f1": _f1,
    "matthews": _unless_constant(lambda predictions, labels: matthews_corrcoef(labels, predictions)),
    "pearson": _unless_constant(_pearson),
    "spearman": _unless_constant(lambda predictions, labels: spearmanr(predictions, labels).statistic),
}


def compute(task: Task, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the metrics of a task on the rows of one split.

    Parameters
    ----------
    task : Task
    predictions : array of shape (n,)
        Class numbers, or the values of a regression.
    labels : array of shape (n,)

    Returns
    -------
    dict of str to float
        In points, main metric first. A metric that is undefined (a constant prediction has no correlation, and without
        a positive there is no F1) is 0, never NaN.

    Examples
    --------
    >>> from lpcompress.glue.tasks import TASKS
    >>> compute(TASKS["mrpc"], np.array([1, 1, 0, 0]), np.array([1, 1, 1, 0]))
    {'accuracy': 75.0, 'f1': 80.0}
    """
    predictions, labels = (
        np.asarray(values, np.int64 if task.classes else np.float64) for values in (predictions, labels)
    )
    return {name: 100 * REFERENCES[name](predictions, labels) for name in task.metrics}


def merged(by_split: Mapping[str, Mapping[str, float]], task: Task) -> dict[str, float]:
    """Return the metrics of all splits of a task under the names of `task.metric_keys`.

    Examples
    --------
    >>> from lpcompress.glue.tasks import TASKS
    >>> halves = {"validation_matched": {"accuracy": 84.0}, "validation_mismatched": {"accuracy": 80.0}}
    >>> merged(halves, TASKS["mnli"])
    {'accuracy': 84.0, 'accuracy_mm': 80.0}
    """
    values = [by_split[split][name] for split in task.splits for name in task.metrics]
    return dict(zip(task.metric_keys, values, strict=True))


def score(metrics: Mapping[str, float], names: Iterable[str] | None = None) -> float:
    """Return the score of a task, in points: the mean of its metrics, or of those named.

    Raises
    ------
    PlanError
        If a name is not among the metrics.

    Examples
    --------
    >>> score({"accuracy": 80.0, "f1": 90.0})
    85.0
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
    "matthews": _unless_constant(_quick_pearson),  # with two classes, Matthews' is Pearson's coefficient of 0/1 labels
    "pearson": _unless_constant(_quick_pearson),
    "spearman": _unless_constant(lambda predictions, labels: _quick_pearson(rankdata(predictions), rankdata(labels))),
}


def statistic(task: Task, name: str) -> Statistic:
    """Return a metric as a function that is fast enough for a bootstrap.

    Parameters
    ----------
    task : Task
    name : str
        One of `task.metrics`.

    Returns
    -------
    callable
        (predictions, labels), two arrays of shape (n,) -> points; equal to `compute` up to rounding.

    Raises
    ------
    PlanError
        If the task has no such metric.

    Examples
    --------
    >>> from lpcompress.glue.tasks import TASKS
    >>> round(statistic(TASKS["cola"], "matthews")(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])), 2)
    57.74
    """
    if name not in task.metrics:
        raise PlanError(f"a metric of {task.key} must be one of {', '.join(task.metrics)}. Got {name!r}.")
    return lambda predictions, labels: 100 * QUICK[name](predictions, labels)
