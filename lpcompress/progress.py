"""Progress reports of long work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

Callback = Callable[[str, float | None, float | None], None]
"""Progress callback type: (description, done, total), where None means unknown."""

Told = Callable[[float], None]
"""Takes the share of some work that is done, from 0 to 1."""


def unheard(share: float) -> None:
    """Tell nobody."""


def stretch(told: Told, first: float, last: float) -> Told:
    """Return what takes the share of a part of the work that begins and ends at these shares of the whole.

    Examples
    --------
    >>> half = stretch(print, 0.5, 1.0)
    >>> half(0.5)
    0.75
    """
    return lambda share: told(first + (last - first) * share)


@dataclass(frozen=True)
class Progress:
    """Report the current step, how much of it is done and how much there is.

    Parameters
    ----------
    tell : callable (description, done, total), optional
        Called at each report; `done` and `total` are None if unknown. By default nothing is reported.
    prefix : str, default=""
        Put before every description.

    Examples
    --------
    >>> progress = Progress(lambda description, done, total: print(description, done, total))
    >>> progress("loading")
    loading None None
    >>> progress.under("mrpc: ")("scoring", 3, 10)
    mrpc: scoring 3 10
    """

    tell: Callback | None = None
    prefix: str = ""

    @classmethod
    def of(cls, tell: Callback | Self | None) -> Self:
        """Wrap a user's callback in `Progress`; return a `Progress` unchanged."""
        return tell if isinstance(tell, cls) else cls(tell)

    def __call__(self, description: str, done: float | None = None, total: float | None = None) -> None:
        """Report the step `description`, with `done` of `total` complete."""
        if self.tell:
            self.tell(self.prefix + description, done, total)

    def under(self, prefix: str) -> Self:
        """Return a `Progress` that also puts `prefix` before every description."""
        return type(self)(self.tell, self.prefix + prefix)

    def about(self, description: str) -> Told:
        """Begin the step `description`; return what takes the share of it that is done."""
        told: Told = lambda share: self(description, share, 1)  # noqa: E731
        told(0)
        return told

    def within(self, first: float, last: float) -> Self:
        """Return a `Progress` that reports a part of the work that begins and ends at these shares of the whole.

        Examples
        --------
        >>> Progress(print).within(0.5, 1)("fitting", 1, 4)
        fitting 0.625 1
        """

        def tell(description: str, done: float | None, total: float | None) -> None:
            self(description, first + (last - first) * ((done or 0) / total if total else 0), 1)

        return type(self)(tell)


silent = Progress()
"""Reports nothing."""
