import pytest

from lpcompress.errors import PlanError
from lpcompress.evaluation.averages import average
from lpcompress.evaluation.gates import Gates, limits
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, OK, TaskResult

RESULTS = {
    "mrpc": TaskResult(OK, score=80.0, baseline_score=80.5, drop=0.5, recovery=80 / 80.5, se=0.0),
    "rte": TaskResult(OK, score=58.0, baseline_score=60.0, drop=2.0, recovery=58 / 60, se=0.0),
    "qqp": TaskResult(NOT_AVAILABLE, reason="none"),
}


def failures(max_drop=None, min_recovery=None, results=RESULTS):
    return Gates(limits(max_drop), limits(min_recovery)).failures(results, average(results))


@pytest.mark.parametrize(
    ("gate", "found"),
    [
        ({"max_drop": 2.0}, []),
        ({"max_drop": 1.5}, ["rte: drop 2.00 exceeds 1.5"]),
        ({"max_drop": 1.0}, ["average: drop 1.25 exceeds 1", "rte: drop 2.00 exceeds 1"]),
        ({"max_drop": {"": 1.5, "rte": 3}}, []),
        ({"max_drop": {"average": 1}}, ["average: drop 1.25 exceeds 1"]),
        ({"min_recovery": 0.98}, ["rte: recovery 0.9667 is below 0.98"]),
        ({"min_recovery": {"mrpc": 0.999}}, ["mrpc: recovery 0.9938 is below 0.999"]),
        ({}, []),
    ],
)
def test_gates_apply_to_the_average_and_every_task(gate, found):
    assert failures(**gate) == found


def test_a_failed_task_passes_no_gate():
    results = RESULTS | {"sst2": TaskResult(FAILED, reason="no memory")}
    assert failures(max_drop=5.0, results=results) == ["sst2 failed: no memory"]
    assert failures(results=results) == []


def test_a_baseline_of_zero_has_no_recovery_to_gate():
    results = {"cola": TaskResult(OK, score=0.0, baseline_score=0.0, drop=0.0, recovery=None, se=0.0)}
    assert failures(min_recovery=0.98, results=results) == []


def test_a_limit_for_an_unknown_task_is_refused():
    with pytest.raises(PlanError, match=r"a limit must be for average, for one of cola.*Got 'mprc'"):
        limits({"mprc": 1.0})


@pytest.mark.parametrize("limit", [float("nan"), "1", {"average": "1"}, {"rte": float("nan")}])
def test_a_limit_that_is_not_a_number_is_refused(limit):
    with pytest.raises(PlanError, match=r"max_drop and min_recovery must be numbers\. Got"):
        limits(limit)
