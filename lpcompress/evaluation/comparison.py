"""Compare a compressed model with its baseline on the same rows of one task."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lpcompress.errors import PlanError
from lpcompress.evaluation.results import OK, UNLABELLED, Outcome, Split, TaskResult
from lpcompress.glue.data import Rows
from lpcompress.glue.metrics import score, statistic
from lpcompress.glue.statistics import Paired, drop_se, mcnemar
from lpcompress.glue.tasks import SECOND_SPLIT, TASKS, Task


def primary_metrics(task: Task, primary: Mapping[str, str]) -> tuple[str, ...]:
    """Return the metrics whose mean is a task's score: all of them, or the one that the user chose.

    Examples
    --------
    >>> primary_metrics(TASKS["mrpc"], {}), primary_metrics(TASKS["mrpc"], {"mrpc": "f1"})
    (('accuracy', 'f1'), ('f1',))
    """
    return (primary[task.key],) if task.key in primary else task.metric_keys


def refuse_unknown(primary: Mapping[str, str]) -> None:
    """Raise if the user's choice of primary metrics names an unknown task or metric.

    Parameters
    ----------
    primary : mapping of str to str
        Task -> metric.

    Raises
    ------
    PlanError
        If a task or metric is unknown.
    """
    for key, metric in primary.items():
        if key not in TASKS or metric not in TASKS[key].metric_keys:
            known = ", ".join(f"{task.key}={'|'.join(task.metric_keys)}" for task in TASKS.values())
            raise PlanError(f"primary must be one of {known}. Got {key}={metric}.")


def compare(
    task: Task,
    splits: Sequence[Rows],
    model: Outcome,
    baseline: Outcome | None = None,
    primary: Mapping[str, str] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Compare the outcome of a compressed model with that of its baseline.

    Parameters
    ----------
    task : Task
    splits : sequence of Rows
        The rows that were predicted, one entry per split.
    model : Outcome
    baseline : Outcome, optional
        Outcome on the same rows. Without it there is no drop.
    primary : mapping of str to str, optional
        Task key -> the one metric that is its score.
    seed : int, default=0
        Seed of the bootstrap.
    """
    labelled = all(rows.labels is not None for rows in splits)
    result = TaskResult(
        OK if labelled else UNLABELLED,
        model=model.model,
        n=sum(map(len, splits)),
        metrics=model.metrics,
        agreement=agreement(model, baseline) if baseline and task.classes else None,
        labels=model.labels,
        splits={rows.split: Split(len(rows), rows.fingerprint) for rows in splits},
        compression=model.compression,
        seconds=model.seconds + (baseline.seconds if baseline else 0.0),
    )
    if not labelled:
        return replace(result, predictions=_names(task, splits, model))
    names = primary_metrics(task, primary or {})
    after = score(model.metrics, names)
    if baseline is None:
        return replace(result, score=after)
    before = score(baseline.metrics, names)
    pairs = [_pair(task, rows, names, model, baseline) for rows in splits]
    return replace(
        result,
        score=after,
        baseline_metrics=baseline.metrics,
        baseline_score=before,
        drop=before - after,
        se=drop_se(pairs, seed=seed),
        p_value=mcnemar(pairs) if "accuracy" in task.metrics else None,
        recovery=after / before if before > 0 else None,
    )


def agreement(model: Outcome, baseline: Outcome) -> float:
    """Return the percentage of rows on which two outcomes predict the same class."""
    same = [np.equal(values, baseline.predictions[split]) for split, values in model.predictions.items()]
    return 100 * float(np.concatenate(same).mean())


def _names(task: Task, splits: Sequence[Rows], model: Outcome) -> list[str]:
    """Return the names of the predicted classes."""
    return [task.classes[int(i)] for rows in splits for i in model.predictions[rows.split]]


def _pair(task: Task, rows: Rows, names: Sequence[str], model: Outcome, baseline: Outcome) -> Paired:
    """Return both models' predictions on one split, with the metrics computed from them."""
    ending = SECOND_SPLIT if rows.split != task.splits[0] else ""
    metrics = [name for name in task.metrics if f"{name}{ending}" in names]
    before, after = (np.asarray(outcome.predictions[rows.split]) for outcome in (baseline, model))
    return Paired(np.asarray(rows.labels), before, after, tuple(statistic(task, name) for name in metrics))
