"""Several processes that share one fit: the `Crew` that `factor/` asks for."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from lpcompress.processes.sharing import deal
from lpcompress.processes.workers import Workers

Array = NDArray[Any]


class SharedFit:
    """Shares items of work out among the processes of a run.

    Parameters
    ----------
    workers : Workers
    device : torch.device
        Where this process wants the results.
    """

    def __init__(self, workers: Workers, device: torch.device) -> None:
        self._workers, self._device = workers, device

    def share(self, costs: Sequence[int], work: Callable[[int], tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """Yield the results of all items, in their order, in every process.

        An exception of `work` is raised in every process: of several, that of the first item.
        """
        dealer = deal(dict(enumerate(costs)), self._workers.count)
        mine = {number: _done(work, number) for number in range(len(costs)) if dealer[number] == self._workers.rank}
        parts = self._workers.gather(mine)
        found = {number: each for part in parts for number, each in part.items()}
        for number in range(len(costs)):
            each = found.pop(number)
            if isinstance(each, Exception):
                raise each
            yield tuple(torch.from_numpy(array).to(self._device) for array in each)


def _done(work: Callable[[int], tuple[Tensor, ...]], number: int) -> tuple[Array, ...] | Exception:
    """Return the result of an item as arrays, which are sent ten times as fast as small tensors, or its exception."""
    try:
        return tuple(tensor.cpu().numpy() for tensor in work(number))
    except Exception as error:  # any error: the others must not wait for this process
        return error
