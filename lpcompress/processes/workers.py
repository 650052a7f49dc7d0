"""The processes that share one run, as `accelerate launch` or torchrun starts them; mostly there is one."""

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

PATIENCE = timedelta(days=7)  # one may be at a large layer for hours; launchers end all when one has died
Result = TypeVar("Result")


class Workers:
    """One process among those that share a run.

    Parameters
    ----------
    device : str, optional
        Where to compute: cpu, cuda, cuda:1. By default an accelerator if there is one. With several processes each
        takes the device that its launcher gives it.
    alone : str, optional
        The default of a single process.

    Attributes
    ----------
    rank, count : int
        Its number, from 0, and how many there are.
    device : torch.device
    """

    def __init__(self, device: str | None = None, alone: str | None = None) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            device = device or alone
        # without a GPU accelerate must be told so, or it overlooks that there are several processes
        state = PartialState(cpu=device == "cpu" or not torch.accelerator.is_available(), timeout=PATIENCE)
        self.rank, self.count = int(state.process_index), int(state.num_processes)
        self.device = checked_device(device) if device and self.count == 1 else state.device
        if self.device.type == "cpu":  # moving to "cpu:0" copies tensors: other alignment, other last digits
            self.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def together(self, work: Callable[[], Result]) -> Result:
        """Do `work` in every process; return this one's result when all have succeeded.

        Raises
        ------
        LpCompressError
            If `work` raised in another process; what it raised in this one is raised as it is. So none waits for a
            process that has given up.
        """
        if self.count == 1:
            return work()
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # whatever it is, the others must hear of it before it goes on
            error = raised
        complaints = self.gather(error and f"{type(error).__name__}: {error}")
        if error:
            raise error
        for rank, complaint in enumerate(complaints):
            if complaint:
                raise LpCompressError(f"process {rank} of {self.count} failed. {complaint}")
        return cast(Result, result)

    def main_alone(self, work: Callable[[], Result]) -> Result | None:
        """Do `work` in the main process only, the others waiting; return its result there, None elsewhere.

        Raises
        ------
        LpCompressError
            As `together`.
        """
        return self.together(lambda: work() if self.is_main else None)

    def gather(self, value: Result) -> list[Result]:
        """Return the `value` of every process, by rank, in every process."""
        return gather_object([value]) if self.count > 1 else [value]

    def from_main(self, value: Any) -> Any:
        """Return the main process' `value` in every process."""
        if self.count == 1:
            return value
        values = [value]
        broadcast_object_list(values)
        return values[0]


class Alone(Workers):
    """The only process of a run, even where a launcher started more; nothing of torch.distributed is touched."""

    def __init__(self) -> None:
        self.rank, self.count, self.device = 0, 1, torch.device("cpu")


@contextmanager
def joined_processes() -> Iterator[None]:
    """End the connection between the processes of a run when it is over; without that one may abort as it exits."""
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
