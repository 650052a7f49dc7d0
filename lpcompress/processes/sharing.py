"""Distribute work among processes, with the results, warnings and errors that a single process would give."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from lpcompress.errors import LpCompressError
from lpcompress.processes.workers import Workers

Name = TypeVar("Name")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """Outcome of the work for one name: a result or an error, and the warnings it gave."""

    result: Result | None
    error: LpCompressError | None
    warnings: list[warnings.WarningMessage]


def spread(sizes: Mapping[str, int], work: Callable[[str, int, int], Result], workers: Workers) -> dict[str, Result]:
    """Call `work` for every name, each in one process; return all results in every process.

    Results, warnings and errors are those of a single process that handles the names in order.

    Parameters
    ----------
    sizes : mapping of str to int
        Name -> cost of its work, in any unit.
    work : callable (name, done, total) -> result
        `done` of the `total` names of this process are finished. With several processes the result must be picklable.
    workers : Workers

    Returns
    -------
    dict
        Results by name, in the order of `sizes`.

    Raises
    ------
    LpCompressError
        The first LpCompressError of `work`, in the order of the names; or if a process failed in another way.

    Examples
    --------
    >>> from lpcompress.processes import Alone
    >>> spread({"a": 1, "b": 9}, lambda name, done, total: f"{name}: {done} of {total} done", Alone())
    {'a': 'a: 0 of 2 done', 'b': 'b: 1 of 2 done'}
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


def deal(sizes: Mapping[Name, int], count: int) -> dict[Name, int]:
    """Assign each name to one of `count` processes: the largest first, each to the process with the smallest load.

    Examples
    --------
    >>> deal({"a": 4, "b": 7, "c": 5}, 2)
    {'b': 0, 'c': 1, 'a': 1}
    """
    loads, ranks = [0] * count, {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):  # stable: equal sizes keep their order
        ranks[name] = loads.index(min(loads))
        loads[ranks[name]] += sizes[name]
    return ranks


def _finish(work: Callable[[str, int, int], Result], name: str, done: int, total: int) -> Finished[Result]:
    """Do the work for one name, and record its warnings and its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return Finished(work(name, done, total), None, caught)
        except LpCompressError as error:
            return Finished(None, type(error)(str(error)), caught)  # without its traceback, which references matrices


def _in_order(names: Mapping[str, int], finished: Mapping[str, Finished[Result]]) -> dict[str, Result]:
    """Warn and raise as one process would; a process that stopped at an error has finished all its names before it."""
    results: dict[str, Result] = {}
    registry: dict[Any, Any] = {}  # records the warnings already given
    for name in names:
        each = finished[name]
        for warning in each.warnings:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno, registry=registry
            )
        if each.error:
            raise each.error
        results[name] = cast(Result, each.result)
    return results
