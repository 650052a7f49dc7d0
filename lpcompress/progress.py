"""Progress callback type."""

from collections.abc import Callable

Progress = Callable[[str, float, float], None]
"""Takes what is being done, how much of it is done, and how much there is; 0 and 0 where that is not known."""


def silent(description: str, done: float, total: float) -> None:
    """Do nothing: the callback of those who want to hear nothing."""
