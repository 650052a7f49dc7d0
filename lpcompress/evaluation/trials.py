"""Sizes that were tried in a search, with what came of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from lpcompress.presentation import megabytes, plain_table, points


@dataclass(frozen=True)
class Trial:
    """A size that was tried.

    Attributes
    ----------
    size : dict of str to float
        The option that sets it, `ratio` or `target_size`, and its value.
    passed : bool
        Whether every gate passed.
    bytes : int or None
        Bytes of the model's tensors; None if the size could not be made.
    score, drop, se, recovery : float or None
        As in `TaskResult`.
    reason : str
        The gates that failed, or why the size could not be made; empty if it passed.
    """

    size: dict[str, float]
    passed: bool
    bytes: int | None = None
    score: float | None = None
    drop: float | None = None
    se: float | None = None
    recovery: float | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """The size in words."""
        return named(self.size)

    def document(self) -> dict[str, Any]:
        """Return the entry of `tried` in JSON: the size as a key, and no empty values."""
        found = {key: value for key, value in vars(self).items() if key != "size" and value not in (None, "")}
        return self.size | found


def named(size: Mapping[str, float]) -> str:
    """Return a size in words.

    Examples
    --------
    >>> named({"target_size": 0.1})
    'target size 0.1'
    """
    return ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in size.items())


def trials_table(tried: Sequence[Trial]) -> Table:
    """Return the table of the sizes that were tried, the largest first."""
    table = plain_table(f"{len(tried)} sizes tried on the way to the smallest that passes", "size")
    for heading in ("bytes", "score", "drop ± se"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for trial in sorted(tried, key=lambda each: -each.bytes if each.bytes else 0):
        drop = "-" if trial.drop is None else f"{trial.drop:z.2f} ± {trial.se:.2f}"
        size = "-" if trial.bytes is None else megabytes(trial.bytes)
        table.add_row(trial.name, size, points(trial.score), drop, "passes" if trial.passed else trial.reason)
    table.caption = "bytes: of all tensors; score and drop in points"
    return table
