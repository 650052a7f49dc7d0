"""How long work tells of what it does."""

from collections.abc import Callable

Progress = Callable[[str, float, float], None]
"""Takes what is being done, how much of it is done, and how much there is."""


def silent(description: str, done: float, total: float) -> None:
    """Tell nobody."""
