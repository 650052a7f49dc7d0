"""What came out of one task: how a model did, and how it compares with the model it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lpcompress.errors import PlanError
from lpcompress.glue.data import Rows
from lpcompress.glue.metrics import score, statistic
from lpcompress.glue.statistics import Paired, drop_se, mcnemar
from lpcompress.glue.tasks import SECOND_SPLIT, TASKS, Task

OK, UNLABELLED, FAILED, NOT_AVAILABLE = "ok", "unlabelled", "failed", "not available"


@dataclass(frozen=True)
class Outcome:
    """One model on one task: all that is kept in a file for a resumed run.

    Attributes
    ----------
    model : str
        Hub id or directory.
    predictions : dict of str to list
        Split -> number of the class (or value of the regression) for each row, in the order of the data set.
    metrics : dict of str to float
        In points; empty where the rows are unlabelled.
    labels : dict
        `order`: class that each output stands for, None for a regression; `decided_by`: what said so.
    compression : dict or None
        What was done to the model before, None for one scored as it stands.
    seconds : float
        Spent on tokenising and predicting.
    """

    model: str
    predictions: dict[str, list[Any]]
    metrics: dict[str, float]
    labels: dict[str, Any]
    compression: dict[str, Any] | None
    seconds: float


@dataclass(frozen=True)
class TaskResult:
    """An entry of `tasks` in the results. Metrics, scores and drops are in points.

    Attributes
    ----------
    status : str
        `ok`, `unlabelled` (AX: predictions but no score), `failed` or `not available`.
    model, reason : str or None
        The reason is that of a failure.
    n : int
        Rows of all splits.
    metrics, score, baseline_metrics, baseline_score
        Of the compressed model and of the one it was made from; without a baseline the latter are None.
    drop, recovery : float or None
        Baseline minus compressed, and compressed over baseline (None if that is 0 or less).
    se, p_value : float or None
        Standard error of the drop (paired bootstrap), and McNemar's test where accuracy is a metric.
    agreement : float or None
        Share of rows, in per cent, with the same predicted class as the baseline's.
    labels, compression : dict
        As in `Outcome`.
    splits : dict
        Split -> number of rows and fingerprint of the data.
    predictions : list of str or None
        Names of the predicted classes of unlabelled rows.
    seconds : float
        Spent on tokenising and predicting, both models together.
    """

    status: str
    model: str | None = None
    n: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    baseline_metrics: dict[str, float] = field(default_factory=dict)
    baseline_score: float | None = None
    drop: float | None = None
    se: float | None = None
    p_value: float | None = None
    recovery: float | None = None
    agreement: float | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, Any] = field(default_factory=dict)
    compression: dict[str, Any] | None = None
    predictions: list[str] | None = None
    seconds: float = 0.0
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what stands in the JSON document; a task without a result has its status and reason alone."""
        if self.reason is not None:
            return {"status": self.status, "model": self.model, "reason": self.reason}
        return {key: value for key, value in asdict(self).items() if key not in ("reason", "predictions") or value}


def primary_metrics(task: Task, primary: dict[str, str]) -> tuple[str, ...]:
    """Return the metrics that make a task's score: all of them, or the one that the user chose."""
    return (primary[task.key],) if task.key in primary else task.metric_keys


def checked_primary(primary: Mapping[str, str]) -> dict[str, str]:
    """Return the user's choice of metrics; raises PlanError where there is no such task or metric."""
    if not isinstance(primary, Mapping):
        raise PlanError(f"primary must map tasks to metrics, such as {{'mrpc': 'f1'}}. Got {primary!r}.")
    for key, metric in primary.items():
        if key not in TASKS or metric not in TASKS[key].metric_keys:
            known = ", ".join(f"{task.key}={'|'.join(task.metric_keys)}" for task in TASKS.values())
            raise PlanError(f"primary must be one of {known}. Got {key}={metric}.")
    return dict(primary)


def compare(
    task: Task,
    splits: Sequence[Rows],
    model: Outcome,
    baseline: Outcome | None = None,
    primary: dict[str, str] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Put the outcomes of a compressed model and of its baseline on the same rows beside each other.

    Parameters
    ----------
    task : Task
    splits : sequence of Rows
        Those that were predicted.
    model, baseline : Outcome
    primary : dict, optional
        Task -> the one metric that is its score.
    seed : int, default=0
        Of the bootstrap.
    """
    names = primary_metrics(task, primary or {})
    labelled = all(rows.labels is not None for rows in splits)
    result: dict[str, Any] = {
        "model": model.model,
        "n": sum(map(len, splits)),
        "metrics": model.metrics,
        "labels": model.labels,
        "splits": {rows.split: {"n": len(rows), "fingerprint": rows.fingerprint} for rows in splits},
        "compression": model.compression,
        "seconds": model.seconds + (baseline.seconds if baseline else 0.0),
    }
    if labelled:
        result["score"] = score(model.metrics, names)
    else:
        result["predictions"] = [task.classes[i] for rows in splits for i in model.predictions[rows.split]]
    if baseline and task.classes:
        result["agreement"] = agreement(model, baseline)
    if baseline and labelled:
        pairs = [_pair(task, rows, names, model, baseline) for rows in splits]
        result["baseline_metrics"] = baseline.metrics
        result["baseline_score"] = score(baseline.metrics, names)
        result["drop"] = result["baseline_score"] - result["score"]
        result["recovery"] = result["score"] / result["baseline_score"] if result["baseline_score"] > 0 else None
        result["se"] = drop_se(pairs, seed=seed)
        result["p_value"] = mcnemar(pairs) if "accuracy" in task.metrics else None
    return TaskResult(OK if labelled else UNLABELLED, **result)


def agreement(model: Outcome, baseline: Outcome) -> float:
    """Return the share of rows, in per cent, for which two outcomes predict the same class."""
    same = [np.equal(values, baseline.predictions[split]) for split, values in model.predictions.items()]
    return 100 * float(np.concatenate(same).mean())


def _pair(task: Task, rows: Rows, names: Sequence[str], model: Outcome, baseline: Outcome) -> Paired:
    """Return both models' predictions on one split and those of the metrics that are read off it."""
    ending = SECOND_SPLIT if rows.split != task.splits[0] else ""
    metrics = [name for name in task.metrics if f"{name}{ending}" in names]
    before, after = (np.asarray(outcome.predictions[rows.split]) for outcome in (baseline, model))
    return Paired(np.asarray(rows.labels), before, after, tuple(statistic(task, name) for name in metrics))
