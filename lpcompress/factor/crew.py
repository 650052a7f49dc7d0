"""The processes that share one fit. What they are and how they exchange results is known above this room."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from torch import Tensor

Work = Callable[[int], tuple[Tensor, ...]]
"""Does one item of work, by its number."""


class Crew(Protocol):
    """Shares items of work out among processes.

    An item is done by one process, and in the same way whatever their number, so that results are the same to the bit.
    Every process must share the same items out in the same order.
    """

    def share(self, costs: Sequence[int], work: Work) -> Iterator[tuple[Tensor, ...]]:
        """Yield the results of all items, in their order, in every process; all of them must be taken.

        Parameters
        ----------
        costs : sequence of int
            Of each item, in any unit. Equal costs are shared out in the same way each time, so that a process may keep
            what it needs for its items.
        work : callable (number of an item) -> tuple of Tensor
            Called for some of the items in each process.
        """


class Alone:
    """A single process, which does everything: an item when its result is asked for, so that memory holds one.

    Examples
    --------
    >>> import torch
    >>> list(Alone().share([1, 1], lambda number: (torch.tensor(number),)))
    [(tensor(0),), (tensor(1),)]
    """

    def share(self, costs: Sequence[int], work: Work) -> Iterator[tuple[Tensor, ...]]:
        """Yield the results of all items; see `Crew`."""
        return map(work, range(len(costs)))


ALONE = Alone()
