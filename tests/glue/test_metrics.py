"""Metrics against formulas written out here, and against scikit-learn and SciPy; degenerate cases too."""

import warnings

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from lpcompress.errors import PlanError
from lpcompress.glue.metrics import compute, merged, score, statistic
from lpcompress.glue.tasks import TASKS

PAIRS = [(task, name) for task in TASKS.values() for name in task.metrics]
ORACLES = {
    "accuracy": lambda p, y: accuracy_score(y, p),
    "f1": lambda p, y: f1_score(y, p, pos_label=1),
    "matthews": lambda p, y: matthews_corrcoef(y, p),
    "pearson": lambda p, y: pearsonr(p, y)[0],
    "spearman": lambda p, y: spearmanr(p, y)[0],
}


def sample(task, n=400, seed=0):
    """Labels and predictions that agree in part."""
    generator = np.random.default_rng(seed)
    if not task.classes:
        labels = generator.integers(0, 21, n) / 4  # with ties, as in STS-B
        return (labels + generator.normal(size=n)).round(2), labels
    labels = generator.integers(0, len(task.classes), n)
    return np.where(generator.random(n) < 0.6, labels, generator.integers(0, len(task.classes), n)), labels


def test_accuracy_and_f1_of_a_worked_example():
    labels, predictions = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    found = compute(TASKS["mrpc"], predictions, labels)
    assert found == pytest.approx({"accuracy": 60.0, "f1": 100 * 2 * 2 / (2 * 2 + 1 + 1)})


def test_matthews_of_a_worked_example():
    labels, predictions = np.array([1] * 6 + [0] * 4), np.array([1, 1, 1, 1, 0, 0, 1, 0, 0, 0])
    tp, fn, fp, tn = 4, 2, 1, 3
    expected = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert compute(TASKS["cola"], predictions, labels) == pytest.approx({"matthews": 100 * expected})


def test_correlations_of_a_worked_example():
    labels, predictions = np.array([0.0, 1.0, 2.0, 5.0]), np.array([0.1, 0.2, 0.9, 0.8])
    found = compute(TASKS["stsb"], predictions, labels)
    assert found["spearman"] == pytest.approx(100 * (1 - 6 * 2 / (4 * 15)))
    assert found["pearson"] == pytest.approx(100 * np.corrcoef(labels, predictions)[0, 1])


@pytest.mark.parametrize(("task", "name"), PAIRS, ids=lambda value: getattr(value, "key", value))
def test_metrics_equal_those_of_the_libraries_to_the_last_digit(task, name):
    for seed in range(3):
        predictions, labels = sample(task, seed=seed)
        assert compute(task, predictions, labels)[name] == 100 * ORACLES[name](predictions, labels)


def test_values_of_single_precision_are_not_rounded():
    predictions, labels = sample(TASKS["stsb"])
    single = predictions.astype(np.float32)
    expected = 100 * pearsonr(single.astype(np.float64), labels)[0]
    assert compute(TASKS["stsb"], single, labels)["pearson"] == expected


@pytest.mark.parametrize(("task", "name"), PAIRS, ids=lambda value: getattr(value, "key", value))
def test_the_quick_functions_agree(task, name):
    quick = statistic(task, name)
    for seed in range(5):
        predictions, labels = sample(task, n=50, seed=seed)
        assert quick(predictions, labels) == pytest.approx(compute(task, predictions, labels)[name], abs=1e-9)


@pytest.mark.parametrize(("task", "name"), PAIRS, ids=lambda value: getattr(value, "key", value))
@pytest.mark.parametrize("n", [1, 2, 7])
def test_constant_answers_and_constant_labels_are_0_or_plain_accuracy_without_a_warning(task, name, n):
    several = np.arange(n) % 2
    for predictions, labels in ((np.zeros(n, int), several), (several, np.zeros(n, int)), (np.zeros(n, int),) * 2):
        expected = 100 * np.mean(predictions == labels) if name == "accuracy" else 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert compute(task, predictions, labels)[name] == expected
            assert statistic(task, name)(predictions, labels) == expected


def test_answers_that_differ_only_in_rounding_are_scored_without_a_warning():
    predictions = np.full(20, 3.3) + np.arange(20) * 1e-15
    found = compute(TASKS["stsb"], predictions, np.arange(20) / 4)
    assert np.isfinite(list(found.values())).all()


def test_f1_is_that_of_class_1():
    labels, predictions = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    assert compute(TASKS["qqp"], predictions, labels) == {"accuracy": 75.0, "f1": 0.0}
    assert compute(TASKS["qqp"], 1 - predictions, labels)["f1"] == pytest.approx(100 * 2 / 5)


def test_the_score_is_the_mean_of_the_metrics():
    assert score({"accuracy": 80.0, "f1": 90.0}) == 85.0
    assert score({"accuracy": 80.0, "f1": 90.0}, ("f1",)) == 90.0
    with pytest.raises(PlanError, match=r"one of accuracy, f1 for this task\. Got 'matthews'"):
        score({"accuracy": 80.0, "f1": 90.0}, ["matthews"])


def test_both_halves_of_mnli_count_equally():
    halves = {"validation_matched": {"accuracy": 84.0}, "validation_mismatched": {"accuracy": 80.0}}
    assert merged(halves, TASKS["mnli"]) == {"accuracy": 84.0, "accuracy_mm": 80.0}
    assert score(merged(halves, TASKS["mnli"])) == 82.0
    assert merged({"validation": {"pearson": 1.0, "spearman": 2.0}}, TASKS["stsb"]) == {"pearson": 1.0, "spearman": 2.0}


def test_a_metric_of_another_task_is_refused():
    with pytest.raises(PlanError, match=r"a metric of rte must be one of accuracy\. Got 'f1'"):
        statistic(TASKS["rte"], "f1")
