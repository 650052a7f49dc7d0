"""Exceptions that the package raises, and what their messages are made of."""

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches

MOST = 60  # characters of a value in a message
LONGEST = 200  # characters of a message of another package

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = MOST


def briefly(value: object) -> str:
    """Return a value as it would be written in Python, shortened: some values are as long as a book.

    Examples
    --------
    >>> briefly("zipf"), briefly([1, 2]), briefly(list(range(100)))
    ("'zipf'", '[1, 2]', '[0, 1, 2, 3, 4, 5, ...]')
    >>> briefly(10**5000)  # Python refuses to write out numbers of more than 4,300 digits
    'a number of 16610 bits'
    """
    if isinstance(value, int) and value.bit_length() > 4 * MOST:
        return f"a number of {value.bit_length()} bits"
    return _SHORT.repr(value)


def cut(text: str) -> str:
    r"""Return a text that comes from elsewhere on one line, and no more than its beginning.

    Examples
    --------
    >>> cut("not a\nnumber"), len(cut("x" * 1000))
    ('not a number', 203)
    """
    line = " ".join(text[: 2 * LONGEST].split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" to end a sentence, or a full stop if no known word is close."""
    near = get_close_matches(word[:MOST], known, n=1)  # the time grows with the square of the length
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
