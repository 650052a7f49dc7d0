"""The processes that share one run, as `accelerate launch` or torchrun starts them; mostly there is one."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from lpcompress.errors import LpCompressError, PlanError

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


def checked_device(wish: Any) -> torch.device:
    """Return the device that a user named.

    Parameters
    ----------
    wish : str, int or torch.device
        As torch takes it: cpu, cuda, cuda:1.

    Raises
    ------
    PlanError
        If there is no such device here, or it holds no numbers.
    """
    try:
        device = torch.device(wish)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError):  # what torch raises for names, for absent drivers, for nonsense
        raise PlanError(f"device must be one of this machine's, such as cpu, cuda or cuda:1. Got {wish!r}.") from None
    return device


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """What became of one piece of work: a result or an error, and the warnings on the way."""

    result: Result | None
    error: LpCompressError | None
    warnings: list[warnings.WarningMessage]


def spread(sizes: Mapping[str, int], work: Callable[[str, int, int], Result], workers: Workers) -> dict[str, Result]:
    """Do `work` for every name, each in one process; return all results in every process.

    Results, warnings and errors are those of one process that goes through the names in their order.

    Parameters
    ----------
    sizes : mapping of name to int
        What the work for each name costs, in any unit.
    work : callable (name, done, total) -> result
        Told how many of its process' names are done. With several processes the result must be fit for pickling.
    workers : Workers

    Raises
    ------
    LpCompressError
        The first of `work`, in the order of the names; or if a process failed in another way.
    """
    if workers.count == 1:
        return {name: work(name, done, len(sizes)) for done, name in enumerate(sizes)}
    dealer = deal(sizes, workers.count)
    mine = [name for name in sizes if dealer[name] == workers.rank]

    def do_mine() -> dict[str, Finished[Result]]:
        finished: dict[str, Finished[Result]] = {}
        for done, name in enumerate(mine):
            finished[name] = _finish(work, name, done, len(mine))
            if finished[name].error:
                break
        return finished

    parts = workers.gather(workers.together(do_mine))
    return _in_order(sizes, {name: each for part in parts for name, each in part.items()})


def deal(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Return which of `count` processes gets each name: the largest first, each to the one that has least so far."""
    loads, ranks = [0] * count, {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):  # stable: equal ones keep their order
        ranks[name] = loads.index(min(loads))
        loads[ranks[name]] += sizes[name]
    return ranks


def _finish(work: Callable[[str, int, int], Result], name: str, done: int, total: int) -> Finished[Result]:
    """Do the work for one name, and keep back what it says."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            return Finished(work(name, done, total), None, said)
        except LpCompressError as error:
            return Finished(None, type(error)(str(error)), said)  # without its traceback, which holds matrices


def _in_order(names: Mapping[str, int], finished: Mapping[str, Finished[Result]]) -> dict[str, Result]:
    """Warn and raise as one process would have; a process that stopped at an error has done all names before it."""
    results: dict[str, Result] = {}
    registry: dict[Any, Any] = {}  # in which warnings that were given already are noted
    for name in names:
        each = finished[name]
        for said in each.warnings:
            warnings.warn_explicit(said.message, said.category, said.filename, said.lineno, registry=registry)
        if each.error:
            raise each.error
        results[name] = cast(Result, each.result)
    return results
