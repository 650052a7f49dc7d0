"""Average over tasks, and its formula in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lpcompress.evaluation.comparison import primary_metrics
from lpcompress.evaluation.results import OK, TaskResult
from lpcompress.glue.tasks import TASKS

METRIC_WORDS = {"matthews": "Matthews", "f1": "F1", "pearson": "Pearson", "spearman": "Spearman"}


@dataclass(frozen=True)
class Average:
    """Averages over tasks, in points; None if there is nothing to average.

    Attributes
    ----------
    tasks : list of str
        Keys of the tasks that have a score.
    average, baseline_average, average_drop, average_drop_se : float or None
        The standard error assumes that the tasks' errors are independent.
    average_recovery : float or None
        `average / baseline_average`; None if the baseline's average is 0 or less.
    formula : str
        How the average is computed, for comparison with other papers.
    """

    tasks: list[str]
    average: float | None = None
    baseline_average: float | None = None
    average_drop: float | None = None
    average_drop_se: float | None = None
    average_recovery: float | None = None
    formula: str = ""


def average(
    results: Mapping[str, TaskResult], primary: Mapping[str, str] | None = None, without: str | None = None
) -> Average:
    """Return the average over the tasks that were scored.

    Parameters
    ----------
    results : mapping of str to TaskResult
        Results by task key.
    primary : mapping of str to str, optional
        Task key -> the one metric that is its score.
    without : str, optional
        Key of a task to leave out.

    Examples
    --------
    >>> mean = average({"rte": TaskResult(OK, score=60.0), "sst2": TaskResult(OK, score=90.0)})
    >>> mean.average, mean.formula
    (75.0, 'average over 2 of 9 tasks = (RTE accuracy + SST-2 accuracy) / 2')
    """
    chosen = {key: result for key, result in results.items() if result.status == OK and key != without}
    tasks, words = list(chosen), formula(list(chosen), primary or {})
    if not chosen:
        return Average(tasks, formula=words)
    score = float(np.mean([result.score for result in chosen.values()]))
    if any(result.drop is None for result in chosen.values()):
        return Average(tasks, score, formula=words)
    baseline = float(np.mean([result.baseline_score for result in chosen.values()]))
    error = math.hypot(*(result.se or 0.0 for result in chosen.values())) / len(chosen)
    recovery = score / baseline if baseline > 0 else None
    return Average(tasks, score, baseline, baseline - score, error, recovery, words)


def formula(tasks: Sequence[str], primary: Mapping[str, str]) -> str:
    """Return the formula of the average over these tasks, in words."""
    if not tasks:
        return "no task was scored"
    terms = " + ".join(_term(key, primary) for key in tasks)
    return f"average over {len(tasks)} of {len(TASKS)} tasks = ({terms}) / {len(tasks)}"


def _term(key: str, primary: Mapping[str, str]) -> str:
    task = TASKS[key]
    names = primary_metrics(task, primary)
    words = [METRIC_WORDS.get(name, name.replace("accuracy_mm", "mismatched accuracy")) for name in names]
    if len(task.splits) > 1:
        words = [word if word.startswith("mismatched") else f"matched {word}" for word in words]
    return f"{task.spelling} {words[0]}" if len(words) == 1 else f"{task.spelling} ({' + '.join(words)})/{len(words)}"
