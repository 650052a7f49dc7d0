"""Progress reports of long work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

Callback = Callable[[str, float | None, float | None], None]
"""Progress callback type: (description, done, total), where None means unknown."""


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


silent = Progress()
"""Reports nothing."""
