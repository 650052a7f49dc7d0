"""The exceptions that users of the package may see, and ends of messages that guess what was meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: "; did you mean 'x'?", or a full stop when no word is near."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def as_per_cent(value: float) -> str:
    """Return the end of a sentence that asks whether a share was given in per cent."""
    return f"; did you mean {value / 100:g}?" if 1 < value < 100 else "."


class LpCompressError(ValueError):
    """Something could not be done; the message says where, what was expected and what to do."""


class PlanError(LpCompressError):
    """The command line or the configuration asks for something that makes no sense (exit code 2)."""


class UnsuitableError(LpCompressError):
    """The method does not support this layer."""


class BudgetError(UnsuitableError):
    """The method cannot build anything as small as was asked."""


class CheckpointError(LpCompressError):
    """A checkpoint cannot be read, written or rebuilt."""


class MissingCheckpointError(CheckpointError):
    """There is no checkpoint of this name, neither here nor on the Hub."""


class NeedsTrainingWarning(UserWarning):
    """The result is unusable until trained."""
