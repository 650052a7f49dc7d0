"""Distributing names; two processes give the results, warnings and errors of one."""

import json
import warnings

import pytest

from lpcompress.errors import BudgetError, LpCompressError, NeedsTrainingWarning
from lpcompress.processes import Alone, deal, spread

SCRIPT = """
import json, sys, warnings
import torch
from lpcompress.errors import BudgetError, LpCompressError, NeedsTrainingWarning
from lpcompress.processes import SharedFit, Workers, joined_processes, spread

SIZES = {"a": 1, "b": 5, "c": 3, "d": 2}  # b and a go to the first process, c and d to the second


def outcome(work):
    calls = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            result = spread(SIZES, lambda *words: calls.append(words) or work(*words), workers)
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
    return {"calls": calls, "result": result, "warnings": [f"{w.category.__name__}: {w.message}" for w in caught]}


def warn(name, *_):
    for text in ("all alike", name, name):
        warnings.warn(text, NeedsTrainingWarning)


def fail(name, *_):
    warn(name)
    if name in "bd":
        raise BudgetError(f"{name} is too large")


def break_down(name, *_):
    if name == "d":
        raise ZeroDivisionError("a bug")


def together():
    crew, calls = SharedFit(workers, torch.device("cpu")), []

    def halve(number):
        calls.append(number)
        if number > 2:
            raise torch.linalg.LinAlgError(f"number {number}")
        return torch.tensor(number), torch.tensor(number / 2)

    results = [[float(each) for each in pair] for pair in crew.share([1, 9, 5], halve)]
    try:
        list(crew.share([1, 1, 1, 1, 1], halve))
    except torch.linalg.LinAlgError as error:
        return calls, results, str(error)


with joined_processes():
    workers = Workers("cpu")
    found = [outcome(lambda name, *_: f"{name} by {workers.rank}"), outcome(warn), outcome(fail), outcome(break_down)]
    found.append(together())
    open(f"{sys.argv[1]}/{workers.rank}.json", "w").write(json.dumps(found))
"""


def test_the_largest_come_first_each_to_the_smallest_load():
    assert deal({"a": 4, "b": 7, "c": 5, "d": 2, "e": 3}, 2) == {"b": 0, "c": 1, "a": 1, "e": 0, "d": 1}
    assert deal({"a": 1, "b": 1, "c": 1}, 2) == {"a": 0, "b": 1, "c": 0}
    assert deal({"a": 1}, 3) == {"a": 0}
    assert deal({}, 2) == {}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_loads_differ_by_at_most_one_layer(count):
    sizes = {f"layer {i}": 1 + (7 * i) % 19 for i in range(40)}
    ranks = deal(sizes, count)
    assert ranks.keys() == sizes.keys()
    loads = [sum(size for name, size in sizes.items() if ranks[name] == rank) for rank in range(count)]
    assert max(loads) - min(loads) <= max(sizes.values())


def test_one_process_works_in_order_and_stops_at_an_error():
    calls = []

    def work(name, done, end):
        calls.append((name, done, end))
        if name == "c":
            raise BudgetError("too large")
        return name.upper()

    assert spread({"b": 1, "a": 9}, work, Alone()) == {"b": "B", "a": "A"}
    with pytest.raises(BudgetError, match="too large"):
        spread({"c": 1, "d": 1}, work, Alone())
    assert calls == [("b", 0, 0.1), ("a", 0.1, 1), ("c", 0, 0.5)]


def test_two_processes_give_the_results_warnings_and_errors_of_one(tmp_path, two_processes):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = two_processes(tmp_path / "script.py", tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    results, warned, failed, broken, (calls, halves, error) = first
    assert list(results["result"].items()) == [("a", "a by 0"), ("b", "b by 0"), ("c", "c by 1"), ("d", "d by 1")]
    assert results["calls"] == [["a", 0, 1 / 6], ["b", 1 / 6, 1]]
    assert second[0]["result"] == results["result"] and second[0]["calls"] == [["c", 0, 3 / 5], ["d", 3 / 5, 1]]

    def warn(names):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for name in names:
                for text in ("all alike", name, name):
                    warnings.warn(text, NeedsTrainingWarning, stacklevel=1)
        return [f"{each.category.__name__}: {each.message}" for each in caught]

    assert warned["warnings"] == second[1]["warnings"] == warn("abcd")
    assert failed["warnings"] == second[2]["warnings"] == warn("ab")  # names after the error are not tried
    assert failed["result"] == second[2]["result"] == "BudgetError: b is too large"
    assert broken["result"] == f"{LpCompressError.__name__}: process 1 of 2 failed. ZeroDivisionError: a bug"
    assert second[3]["result"] == "ZeroDivisionError: a bug"
    assert [calls, second[4][0]] == [[1, 0, 2, 4], [0, 2, 1, 3]]
    assert halves == second[4][1] == [[0, 0], [1, 0.5], [2, 1]]
    assert error == second[4][2] == "number 3"
