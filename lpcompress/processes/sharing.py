"""Sharing work out among processes, so that results, warnings and errors are those of one process."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from lpcompress.errors import LpCompressError
from lpcompress.processes.workers import Workers

Result = TypeVar("Result")


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
