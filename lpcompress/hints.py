"""Ends of error messages that guess what was meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: "; did you mean 'x'?", or a full stop when no word is near."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def as_per_cent(value: float) -> str:
    """Return the end of a sentence that asks whether a share was given in per cent."""
    return f"; did you mean {value / 100:g}?" if 1 < value < 100 else "."
