"""Saying what is being done, and how much of it is done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

Callback = Callable[[str, float | None, float | None], None]


@dataclass(frozen=True)
class Progress:
    """Passes on what is being done, how much of it is done, and how much there is.

    Parameters
    ----------
    tell : callable (description, done, total), optional
        Is told; `done` and `total` are None where they are unknown. Without it nobody is.
    prefix : str
        Stands before every description.

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
        """Return a callback that a user gave as `Progress`; a `Progress` stays what it is."""
        return tell if isinstance(tell, cls) else cls(tell)

    def __call__(self, description: str, done: float | None = None, total: float | None = None) -> None:
        """Say that `description` is being done, `done` of `total` so far."""
        if self.tell:
            self.tell(self.prefix + description, done, total)

    def under(self, prefix: str) -> Self:
        """Return progress whose descriptions begin with `prefix`."""
        return type(self)(self.tell, self.prefix + prefix)


silent = Progress()
"""Tells nobody."""
