"""The processes that share a run, as started by `accelerate launch` or torchrun; usually there is only one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from lpcompress.errors import LpCompressError
from lpcompress.processes.devices import checked_device

TIMEOUT = timedelta(days=7)  # a large layer may take hours; if a process dies, the launcher ends the others
Result = TypeVar("Result")


class Workers:
    """The current process, among those that share a run.

    Parameters
    ----------
    device : str, optional
        Device to compute on: cpu, cuda, cuda:1. By default an accelerator if there is one. With several processes, each
        uses the device that its launcher assigns.
    alone : str, optional
        Default device of a single process.

    Attributes
    ----------
    rank : int
        Index of this process, from 0.
    count : int
        Number of processes.
    device : torch.device
        Device of this process.
    """

    def __init__(self, device: str | None = None, alone: str | None = None) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            device = device or alone
        # without a GPU, accelerate needs cpu=True to notice that there are several processes
        state = PartialState(cpu=device == "cpu" or not torch.accelerator.is_available(), timeout=TIMEOUT)
        self.rank, self.count = int(state.process_index), int(state.num_processes)
        self.device = checked_device(device) if device and self.count == 1 else state.device
        if self.device.type == "cpu":  # moving to "cpu:0" copies tensors, which changes alignment and rounding
            self.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes files and prints."""
        return self.rank == 0

    def together(self, work: Callable[[], Result]) -> Result:
        """Call `work` in every process; return this process's result when all have succeeded.

        Raises
        ------
        LpCompressError
            If `work` raised in another process, so that no process waits for one that has failed. An exception of
            `work` in this process is raised unchanged.
        """
        if self.count == 1:
            return work()
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # any error: the others must be notified before it propagates
            error = raised
        complaints = self.gather(error and f"{type(error).__name__}: {error}")
        if error:
            raise error
        for rank, complaint in enumerate(complaints):
            if complaint:
                raise LpCompressError(f"process {rank} of {self.count} failed. {complaint}")
        return cast(Result, result)

    def main_alone(self, work: Callable[[], Result]) -> Result | None:
        """Call `work` in the main process while the others wait; return its result there, and None elsewhere.

        Raises
        ------
        LpCompressError
            As in `together`.
        """
        return self.together(lambda: work() if self.is_main else None)

    def gather(self, value: Result) -> list[Result]:
        """Return the `value` of every process, by rank, in every process."""
        return gather_object([value]) if self.count > 1 else [value]

    def from_main(self, value: Any) -> Any:
        """Return the `value` of the main process in every process."""
        if self.count == 1:
            return value
        values = [value]
        broadcast_object_list(values)
        return values[0]


class Alone(Workers):
    """A single process, even if a launcher started several; torch.distributed is not used."""

    def __init__(self) -> None:
        self.rank, self.count, self.device = 0, 1, torch.device("cpu")


@contextmanager
def joined_processes() -> Iterator[None]:
    """Close the process group when the block ends; otherwise a process may abort on exit."""
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
