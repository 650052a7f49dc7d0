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
class Check:
    """A gate applied to the average or to one task.

    Attributes
    ----------
    key : str
        "average" or a task.
    gate : str
        "max_drop" or "min_recovery".
    value : float
        The drop in points, or the share of the baseline's score.
    limit : float
    """

    key: str
    gate: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the value is within the limit."""
        return self.value <= self.limit if self.gate == "max_drop" else self.value >= self.limit

    @property
    def failure(self) -> str:
        """The sentence that says by what the gate fails."""
        if self.gate == "max_drop":
            return f"{self.key}: drop {self.value:.2f} exceeds {self.limit:g}"
        return f"{self.key}: recovery {self.value:.4f} is below {self.limit:g}"


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

    def refuse_idle(self, task: str) -> None:
        """Raise PlanError if there are gates, but none for this task or for the average, which is that of this task."""
        keys = {*self.max_drop, *self.min_recovery}
        if keys and not keys & {"", AVERAGE, task}:
            raise PlanError(
                f"max_drop and min_recovery must be for {task}, for {AVERAGE}, or for all. Got only"
                f" {', '.join(sorted(keys))}."
            )

    def checks(self, results: Mapping[str, TaskResult], mean: Average) -> list[Check]:
        """Return every gate that applies to the average or to a scored task, average first."""
        values = {AVERAGE: (mean.average_drop, mean.average_recovery)} | {
            key: (result.drop, result.recovery) for key, result in results.items() if result.status == OK
        }
        limits = {"max_drop": self.max_drop, "min_recovery": self.min_recovery}
        return [
            Check(key, gate, value, limit)
            for key, pair in values.items()
            for gate, value in zip(limits, pair, strict=True)
            if value is not None and (limit := _limit(limits[gate], key)) is not None
        ]

    def failures(self, results: Mapping[str, TaskResult], mean: Average) -> list[str]:
        """Return one sentence for each failed gate and, if there are gates, for each failed task."""
        if not self:
            return []
        found = [f"{key} failed: {result.reason}" for key, result in results.items() if result.status == FAILED]
        return found + [check.failure for check in self.checks(results, mean) if not check.passed]


def _limit(limits: Mapping[str, float], key: str) -> float | None:
    """Return the limit of a task or of the average: its own, or else the one for all others."""
    return limits.get(key, limits.get(""))
