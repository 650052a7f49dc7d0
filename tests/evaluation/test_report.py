from io import StringIO

import pytest
from huggingface_hub import ModelCard
from rich.console import Console

from lpcompress.config.plan import Plan
from lpcompress.evaluation import report
from lpcompress.evaluation.document import document
from lpcompress.evaluation.gates import Gates
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, OK, UNLABELLED, TaskResult

PLAN = Plan(method="svd", p=1.0).model_dump()


def result(score, base, metrics=None, **more):
    drop = None if base is None else base - score
    recovery = None if base is None else score / base
    se = None if base is None else 0.125
    return TaskResult(
        OK,
        "m",
        more.pop("n", 408),
        metrics or {"accuracy": score},
        score,
        baseline_score=base,
        drop=drop,
        se=se,
        recovery=recovery,
        **more,
    )


@pytest.fixture
def make():
    def made(results, baseline="m", plan=PLAN, limit=None):
        return document("m", baseline, results, {"primary": {}, "compression": plan, "limit": limit}, Gates({}, {}))

    return made


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"target_size": 0.5}, "50% of the model kept"),
        ({"max_bytes": "40MB"}, "at most 40.0 MB"),
        ({"allocation": {"a": {"method": "svd", "ratio": 0.5}}}, "as allocated"),
    ],
)
def test_every_way_to_give_a_size_stands_above_the_table(make, size, words):
    document = make({"mrpc": result(80.0, 81.0)}, plan=Plan(**size).model_dump())
    assert f"m, auto, p=2, {words}" in printed(report.glue_table(document))[0]


RESULTS = {
    "mrpc": result(80.0, 81.0, {"accuracy": 76.0, "f1": 84.0}),
    "mnli": result(83.5, 84.0, {"accuracy": 83.0, "accuracy_mm": 84.0}, n=19647),
    "wnli": result(56.34, 56.34, n=71),
    "qqp": TaskResult(NOT_AVAILABLE, "m", reason="no model is named for qqp"),
    "rte": TaskResult(FAILED, "m", reason="no memory"),
    "ax": TaskResult(UNLABELLED, "m", 1104, agreement=97.34),
}


def printed(table, width=160):
    console = Console(file=StringIO(), width=width)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row(lines, key):
    return next(line.split() for line in lines if line.split()[:1] == [key])


def test_a_table_shows_each_task_before_and_after(make):
    lines = printed(report.glue_table(make(RESULTS)))
    assert "without fine-tuning" in lines[0]
    assert "svd, p=1, 28% removed" in lines[0]
    assert row(lines, "task") == ["task", "n", "base", "compressed", "drop", "±", "se", "recovery"]
    assert row(lines, "mrpc") == ["mrpc", "408", "81.00", "80.00", "1.00", "±", "0.12", "98.8%"]
    assert row(lines, "mnli") == ["mnli", "19,647", "84.00", "83.50", "0.50", "±", "0.12", "99.4%"]
    assert row(lines, "wnli*")[1] == "71"
    assert row(lines, "qqp") == ["qqp", "-", "not", "available"]
    assert row(lines, "rte") == ["rte", "-", "failed"]
    assert row(lines, "ax") == ["ax", "1,104", "-", "-", "97.3%", "same"]
    text = "\n".join(lines)
    for note in (
        "average over 3 of 9 tasks = (MRPC (accuracy + F1)/2 + MNLI (matched accuracy",
        "* nearly every model gives the majority class of wnli, 56.3",
        "qqp not available: no model is named for qqp",
        "rte failed: no memory",
    ):
        assert note in text
    averages = [line.split() for line in lines if line.split()[:1] == ["average"] and "±" in line]
    assert averages[0][1:4] == ["73.78", "73.28", "0.50"]
    assert averages[1][:6] == ["average", "without", "wnli", "82.50", "81.75", "0.75"]


def test_methods_are_columns(make):
    first, second = make(RESULTS), make(RESULTS | {"mrpc": result(70.0, 81.0)}, plan=PLAN | {"method": "lp"})
    lines = printed(report.glue_table(first | {"methods": {"svd": first, "lp": second}}))
    assert "m, p=1, 28% removed" in lines[0]
    assert row(lines, "task") == ["task", "n", "base", "svd", "lp"]
    assert row(lines, "mrpc") == ["mrpc", "408", "81.00", "80.00", "70.00"]
    assert "11.00 ± 0.12" in "\n".join(lines)


def test_without_a_baseline_there_is_a_column_of_scores(make):
    lines = printed(report.glue_table(make({"mrpc": result(80.0, None)}, baseline=None, plan=None, limit=20)))
    assert row(lines, "task") == ["task", "n", "score"]
    assert row(lines, "mrpc") == ["mrpc", "408", "80.00"]
    assert "(0 to 100), only the first 20 rows;" in "\n".join(lines)


def test_the_model_index_names_split_and_metric(make):
    found = report.eval_results(make(RESULTS))
    rows = [(each.dataset_config, each.dataset_split, each.metric_type, each.metric_value) for each in found]
    assert rows == [
        ("mrpc", "validation", "accuracy", 76.0),
        ("mrpc", "validation", "f1", 84.0),
        ("mnli", "validation_matched", "accuracy", 83.0),
        ("mnli", "validation_mismatched", "accuracy", 84.0),
        ("wnli", "validation", "accuracy", 56.34),
    ]
    assert {each.dataset_type for each in found} == {"nyu-mll/glue"}
    assert found[0].metric_name == "accuracy (points, 0 to 100, without fine-tuning)"
    assert "only the first 20 rows" in report.eval_results(make(RESULTS, limit=20))[0].metric_name
    [cola] = report.eval_results(make({"cola": result(50.0, 51.0, {"matthews": 50.0})}))
    assert cola.metric_type == "matthews_correlation"


def test_the_card_gets_the_scores(make):
    text = "---\ntags:\n- lpcompress\n---\n\n# Title\n"
    card = ModelCard(report.with_scores(text, make({"mrpc": RESULTS["mrpc"]}), "small"))
    assert card.data.tags == ["lpcompress"]
    assert [each.metric_value for each in card.data.eval_results] == [76.0, 84.0]
    assert "# Title" in card.text
    assert "| mrpc | 408 | accuracy + f1 | 81.00 | 80.00 | 1.00 ± 0.12 |" in card.text
