"""Distribute work among processes, with the results, warnings and errors that a single process would give."""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
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


def spread(
    sizes: Mapping[str, int],
    work: Callable[[str, float, float], Result],
    workers: Workers,
    shared: Collection[str] = (),
) -> dict[str, Result]:
    """Call `work` for every name, each in one process; return all results in every process.

    Results, warnings and errors are those of a single process that handles the names in order.

    Parameters
    ----------
    sizes : mapping of str to int
        Name -> cost of its work, in any unit.
    work : callable (name, done, end) -> result
        `done` and `end` are the shares of this process's cost that are done before and after it, from 0 to 1. With
        several processes the result must be picklable.
    workers : Workers
    shared : collection of str
        Names whose work all processes do together, before the others: `work` is called for them in every process.

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
    >>> spread({"a": 1, "b": 9}, lambda name, done, end: f"{name}: {done} to {end}", Alone())
    {'a': 'a: 0.0 to 0.1', 'b': 'b: 0.1 to 1.0'}
    """
    if workers.count == 1:
        return {name: work(name, *ends) for name, ends in _stretches(sizes).items()}
    dealer = deal({name: size for name, size in sizes.items() if name not in shared}, workers.count)
    together = [name for name in sizes if name in shared]
    mine = [*together, *(name for name in sizes if dealer.get(name) == workers.rank)]

    def do_mine() -> dict[str, Finished[Result]]:
        finished: dict[str, Finished[Result]] = {}
        for name, (done, end) in _stretches({name: sizes[name] for name in mine}).items():
            finished[name] = _finish(work, name, done, end)
            if finished[name].error and name not in shared:  # names before a shared one may be yet to come
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


def too_large(sizes: Mapping[str, int], count: int) -> list[str]:
    """Return the names for which one of `count` processes would work while others have nothing left to do.

    Examples
    --------
    >>> too_large({"a": 1, "b": 9, "c": 3, "d": 2}, 2)  # c, d and a are one half each
    ['b']
    >>> too_large({"a": 4, "b": 3}, 3)
    ['a', 'b']
    """
    found: list[str] = []
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if sizes[name] * count <= sum(sizes[each] for each in sizes if each not in found):
            break
        found.append(name)
    return found


def _stretches(sizes: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Return the shares of the whole cost that are done before and after each name."""
    ends = [each / (sum(sizes.values()) or 1) for each in accumulate(sizes.values(), initial=0)]
    return dict(zip(sizes, pairwise(ends), strict=True))


def _finish(work: Callable[[str, float, float], Result], name: str, done: float, end: float) -> Finished[Result]:
    """Do the work for one name, and record its warnings and its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return Finished(work(name, done, end), None, caught)
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
