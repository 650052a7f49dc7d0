import numpy as np
import pytest

from lpcompress.errors import PlanError
from lpcompress.evaluation.comparison import agreement, compare, primary_metrics, refuse_unknown
from lpcompress.evaluation.results import Outcome
from lpcompress.glue.data import Rows, load_rows
from lpcompress.glue.labels import LabelMap
from lpcompress.glue.metrics import compute, merged
from lpcompress.glue.tasks import AX, TASKS

LABELS = LabelMap(None, "names")


def outcome(task, splits, seed, seconds=1.0):
    """Random predictions with their metrics."""
    generator = np.random.default_rng(seed)
    size = len(task.classes)
    found = {r.split: generator.integers(size, size=len(r)) if size else generator.random(len(r)) for r in splits}
    labelled = {r.split: compute(task, found[r.split], r.labels) for r in splits if r.labels is not None}
    metrics = merged(labelled, task) if labelled else {}
    return Outcome("m", {split: values.tolist() for split, values in found.items()}, metrics, LABELS, None, seconds)


@pytest.fixture
def rows(glue_dir):
    def read(task):
        return [load_rows(task, split, glue_dir) for split in task.splits]

    return read


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_drop_is_the_baselines_score_minus_the_compressed_models(task, rows):
    splits = rows(task)
    model, baseline = (outcome(task, splits, seed) for seed in (1, 2))
    result = compare(task, splits, model, baseline)
    assert (result.status, result.n, result.seconds) == ("ok", sum(map(len, splits)), 2.0)
    assert result.score == pytest.approx(np.mean(list(model.metrics.values())))
    assert result.baseline_score == pytest.approx(np.mean(list(baseline.metrics.values())))
    assert result.drop == pytest.approx(result.baseline_score - result.score)
    if result.baseline_score > 0:
        assert result.recovery == pytest.approx(result.score / result.baseline_score)
    else:
        assert result.recovery is None
    assert result.se > 0
    assert (result.p_value is None) == ("accuracy" not in task.metrics)
    assert [each.n for each in result.splits.values()] == [len(each) for each in splits]


def test_the_standard_error_of_two_splits_treats_them_as_independent(rows):
    splits = rows(TASKS["mnli"])
    model, baseline = (outcome(TASKS["mnli"], splits, seed) for seed in (1, 2))
    both = compare(TASKS["mnli"], splits, model, baseline).se
    alone = [compare(TASKS["mnli"], splits, model, baseline, {"mnli": name}).se for name in ("accuracy", "accuracy_mm")]
    assert both == pytest.approx(np.hypot(*alone) / 2, rel=0.15)


def test_without_a_baseline_there_is_no_drop(rows):
    splits = rows(TASKS["mrpc"])
    result = compare(TASKS["mrpc"], splits, outcome(TASKS["mrpc"], splits, 1))
    assert (result.drop, result.se, result.baseline_score, result.baseline_metrics) == (None, None, None, {})


def test_a_primary_metric_is_the_score(rows):
    splits = rows(TASKS["mrpc"])
    model = outcome(TASKS["mrpc"], splits, 1)
    assert compare(TASKS["mrpc"], splits, model, primary={"mrpc": "f1"}).score == model.metrics["f1"]
    assert primary_metrics(TASKS["mnli"], {}) == ("accuracy", "accuracy_mm")
    refuse_unknown({"mnli": "accuracy_mm"})
    for wrong in ({"mrpc": "pearson"}, {"mprc": "f1"}):
        with pytest.raises(PlanError, match=r"primary must be one of cola=matthews, .*mrpc=accuracy\|f1.*Got m"):
            refuse_unknown(wrong)


def test_unlabelled_rows_have_predictions_and_no_score(rows):
    splits = rows(AX)
    model, baseline = outcome(AX, splits, 1), outcome(AX, splits, 2)
    result = compare(AX, splits, model, baseline)
    assert (result.status, result.score, result.drop) == ("unlabelled", None, None)
    assert result.predictions == [AX.classes[i] for i in model.predictions["test"]]
    assert result.agreement == agreement(model, baseline)


def test_agreement_is_over_the_rows_of_all_splits():
    model = Outcome("m", {"a": [0, 1, 1], "b": [0]}, {}, LABELS, None, 0.0)
    other = Outcome("m", {"a": [0, 1, 0], "b": [1]}, {}, LABELS, None, 0.0)
    assert agreement(model, other) == 50.0


def test_rows_of_one_class_are_scored(rows):
    task = TASKS["cola"]
    labels = np.ones(5, dtype=np.int64)
    split = Rows(task, "validation", (["a"] * 5,), labels, "f")
    model = Outcome("m", {"validation": [1] * 5}, {"matthews": 0.0}, LABELS, None, 0.0)
    result = compare(task, [split], model, model)
    assert (result.score, result.drop, result.se, result.recovery) == (0.0, 0.0, 0.0, None)
