"""Gates: the largest accepted drop and the smallest accepted recovery of a score."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from numbers import Real
from typing import Self

from lpcompress.config.scoring import Scoring
from lpcompress.errors import PlanError
from lpcompress.evaluation.averages import Average
from lpcompress.evaluation.results import FAILED, OK, TaskResult
from lpcompress.glue.tasks import TASKS

AVERAGE = "average"  # key of a limit on the average over tasks
Limits = float | Mapping[str, float] | None


def limits(value: Limits) -> dict[str, float]:
    """Return limits keyed by "average", task, and "" for all others.

    Raises
    ------
    PlanError
        If a limit is not a number, or its key is neither "average" nor a task.

    Examples
    --------
    >>> limits(1.5), limits({"average": 1.0, "rte": 3.0})
    ({'': 1.5}, {'average': 1.0, 'rte': 3.0})
    """
    if value is None:
        return {}
    found = dict(value) if isinstance(value, Mapping) else {"": value}
    for key in found:
        if not isinstance(found[key], Real) or isnan(found[key]):
            raise PlanError(f"max_drop and min_recovery must be numbers. Got {found[key]!r}.")
        if key not in ("", AVERAGE, *TASKS):
            raise PlanError(f"a limit must be for {AVERAGE}, for one of {', '.join(TASKS)}, or for all. Got {key!r}.")
    return found


@dataclass(frozen=True)
class Gates:
    """Limits on drop and recovery, keyed by "average", task, and "" for all others.

    Attributes
    ----------
    max_drop : dict of str to float
        In points.
    min_recovery : dict of str to float
        Shares of the baseline's score, such as 0.98.
    """

    max_drop: Mapping[str, float]
    min_recovery: Mapping[str, float]

    @classmethod
    def of(cls, scoring: Scoring) -> Self:
        """Return the gates that `scoring` sets.

        Raises
        ------
        PlanError
            If a limit is invalid.
        """
        return cls(limits(scoring.max_drop), limits(scoring.min_recovery))

    def __bool__(self) -> bool:
        return bool(self.max_drop or self.min_recovery)

    def failures(self, results: Mapping[str, TaskResult], mean: Average) -> list[str]:
        """Return one sentence for each failed gate and, if there are gates, for each failed task."""
        if not self:
            return []
        found = [f"{key} failed: {result.reason}" for key, result in results.items() if result.status == FAILED]
        values = {AVERAGE: (mean.average_drop, mean.average_recovery)} | {
            key: (result.drop, result.recovery) for key, result in results.items() if result.status == OK
        }
        for key, (drop, recovery) in values.items():
            most, least = _limit(self.max_drop, key), _limit(self.min_recovery, key)
            if most is not None and drop is not None and drop > most:
                found.append(f"{key}: drop {drop:.2f} exceeds {most:g}")
            if least is not None and recovery is not None and recovery < least:
                found.append(f"{key}: recovery {recovery:.4f} is below {least:g}")
        return found


def _limit(limits: Mapping[str, float], key: str) -> float | None:
    """Return the limit of a task or of the average: its own, or else the one for all others."""
    return limits.get(key, limits.get(""))
