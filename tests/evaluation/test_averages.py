import math

import pytest

from lpcompress.evaluation.averages import average, formula
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, OK, UNLABELLED, TaskResult


def result(score, base=None, se=0.0):
    drop = None if base is None else base - score
    return TaskResult(OK, score=score, baseline_score=base, drop=drop, se=se)


def test_the_mean_is_over_the_tasks_that_have_a_score():
    results = {
        "mrpc": result(80.0, 82.0, 0.3),
        "rte": result(60.0, 61.0, 0.4),
        "wnli": result(56.0, 56.0),
        "qqp": TaskResult(NOT_AVAILABLE, reason="none"),
        "sst2": TaskResult(FAILED, reason="no"),
        "ax": TaskResult(UNLABELLED),
    }
    mean = average(results)
    assert mean.tasks == ["mrpc", "rte", "wnli"]
    assert (mean.average, mean.baseline_average) == (pytest.approx(196 / 3), pytest.approx(199 / 3))
    assert mean.average_drop == pytest.approx(1.0)
    assert mean.average_recovery == pytest.approx(196 / 199)
    assert mean.average_drop_se == pytest.approx(0.5 / 3)
    assert average(results, without="wnli").average == pytest.approx(70.0)


def test_without_a_baseline_there_is_only_a_score():
    mean = average({"mrpc": result(80.0)})
    assert (mean.average, mean.average_drop, mean.average_recovery) == (80.0, None, None)
    assert average({}).average is None


def test_a_baseline_of_zero_has_no_recovery():
    assert average({"cola": result(0.0, 0.0)}).average_recovery is None


def test_the_formula_names_the_metrics_of_each_task():
    text = formula(["cola", "mrpc", "stsb", "mnli"], {"mrpc": "f1"})
    assert text == (
        "average over 4 of 9 tasks = (CoLA Matthews + MRPC F1 + STS-B (Pearson + Spearman)/2"
        " + MNLI (matched accuracy + mismatched accuracy)/2) / 4"
    )
    assert formula([], {}) == "no task was scored"


def test_the_error_of_the_mean_assumes_independent_tasks():
    mean = average({key: result(1.0, 2.0, 0.5) for key in ("cola", "sst2", "rte", "qnli")})
    assert math.isclose(mean.average_drop_se, 0.5 / 2)
