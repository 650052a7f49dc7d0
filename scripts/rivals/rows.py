"""Rows of the report: the cells of a rival at a size, one for each task, and their means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rivals.cells import Cell
from rivals.rival import SCOPES
from rivals.table import RIVALS


@dataclass(frozen=True)
class Row:
    """A rival at one size in one scope.

    Attributes
    ----------
    scope, rival, family : str
    size : float or None
        The share of the bytes that was asked for; None for rivals with a size of their own.
    by_task : dict of str to dict
        What was measured, see `Examiner.measure`; a `reason` if there is no result.
    tasks : frozenset of str
        All tasks of the scope. Without a result for each there is no mean, which could not be compared.
    """

    scope: str
    rival: str
    family: str
    size: float | None
    by_task: Mapping[str, dict[str, Any]]
    tasks: frozenset[str]

    @property
    def done(self) -> dict[str, dict[str, Any]]:
        """The tasks that have a result."""
        return {task: found for task, found in self.by_task.items() if "reason" not in found}

    @property
    def share(self) -> float:
        """The mean share of the bytes over the tasks that have a result; without any, what was asked for."""
        shares = [found["share"] for found in self.done.values()]
        return sum(shares) / len(shares) if shares else self.size or 0.0

    def mean(self, name: str) -> float | None:
        """Return the mean of a number over all tasks; None if one has no result."""
        values = [found[name] for found in self.done.values() if name in found]
        return sum(values) / len(values) if len(values) == len(self.tasks) else None

    def mean_se(self, name: str) -> float:
        """Return the standard error of a mean; the errors of tasks are independent."""
        values = [found[f"{name}_se"] for found in self.done.values()]
        return sum(value**2 for value in values) ** 0.5 / len(values)

    @property
    def settings(self) -> str:
        """The settings of all tasks, each once."""
        return " / ".join(sorted({found["setting"] for found in self.done.values()}))

    def record(self) -> dict[str, Any]:
        """Return the row for JSON."""
        means = {name: self.mean(name) for name in ("share", "error", "bound", "moved", "drop")}
        known = {name: value for name, value in means.items() if value is not None}
        errors = {f"{name}_se": self.mean_se(name) for name in ("moved", "drop") if name in known}
        head = {"scope": self.scope, "rival": self.rival, "family": self.family, "size": self.size}
        return head | {"mean": known | errors, "tasks": dict(self.by_task)}


@dataclass(frozen=True)
class Rows:
    """All rows, in the order of scopes and rivals, the largest first."""

    rows: tuple[Row, ...]

    def of(self, scope: str) -> list[Row]:
        """Return the rows of a scope."""
        return [row for row in self.rows if row.scope == scope]

    def records(self) -> list[dict[str, Any]]:
        """Return all rows for JSON."""
        return [row.record() for row in self.rows]


def rows_of(cells: Mapping[Cell, dict[str, Any]]) -> Rows:
    """Return the rows that the cells make up."""
    found: dict[tuple[str, str, float | None], dict[str, dict[str, Any]]] = {}
    for cell, result in sorted(cells.items(), key=lambda pair: pair[0].task):
        found.setdefault((cell.scope, cell.rival, cell.size), {})[cell.task] = result
    families = {rival.name: rival.family for rival in RIVALS}
    tasks = {name: frozenset(cell.task for cell in cells if cell.scope == name) for name in SCOPES}
    scopes, rivals = list(SCOPES), list(families)
    order = sorted(found, key=lambda key: (scopes.index(key[0]), rivals.index(key[1]), -(key[2] or 0)))
    return Rows(tuple(Row(*key[:2], families[key[1]], key[2], found[key], tasks[key[0]]) for key in order))
