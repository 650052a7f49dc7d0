"""Exceptions that the package raises, and "did you mean" endings for error messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" to end a sentence, or a full stop if no known word is close."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def as_per_cent(value: float) -> str:
    """Return "; did you mean 0.28?" to end a sentence about the share 28, or a full stop if it is no percentage."""
    return f"; did you mean {value / 100:g}?" if 1 < value < 100 else "."


class LpCompressError(ValueError):
    """Base class of the package's errors; the message says what was wrong, where, what was expected and what to do.

    Examples
    --------
    >>> from lpcompress.config.plan import Plan
    >>> try:
    ...     Plan(ratio=28)
    ... except LpCompressError as error:
    ...     print(error)
    ratio must be above 0 and below 1: share of each layer's stored bytes to REMOVE. Got 28; did you mean 0.28?
    """


class PlanError(LpCompressError):
    """An option on the command line, in a file or in Python is invalid (exit code 2)."""


class UnsuitableError(LpCompressError):
    """The method does not support this layer."""


class BudgetError(UnsuitableError):
    """The method cannot fit the layer within the byte budget."""


class CheckpointError(LpCompressError):
    """A checkpoint cannot be read, written or rebuilt."""


class MissingCheckpointError(CheckpointError):
    """No checkpoint of this name exists, either locally or on the Hub."""


class NeedsTrainingWarning(UserWarning):
    """The result is unusable until trained."""
