from io import StringIO

import pytest
from rich.console import Console

from lpcompress.config.plan import Plan
from lpcompress.evaluation import report


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"target_size": 0.5}, "50% of the model kept"),
        ({"max_bytes": "40MB"}, "at most 40.0 MB"),
        ({"allocation": {"a": {"method": "svd", "ratio": 0.5}}}, "as allocated"),
    ],
)
def test_the_title_shows_every_form_of_size(make, result, size, words):
    evaluation = make({"mrpc": result(80.0, 81.0)}, plan=Plan(**size))
    assert f"m, auto, p=2, {words}" in printed(report.glue_table(evaluation))[0]


def printed(table, width=160):
    console = Console(file=StringIO(), width=width)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row(lines, key):
    return next(line.split() for line in lines if line.split()[:1] == [key])


def test_a_table_shows_each_task_before_and_after(make, results):
    lines = printed(report.glue_table(make(results)))
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
        "* on wnli nearly every model predicts the majority class, which scores 56.3",
        "qqp not available: no model is named for qqp",
        "rte failed: no memory",
    ):
        assert note in text
    averages = [line.split() for line in lines if line.split()[:1] == ["average"] and "±" in line]
    assert averages[0][1:4] == ["73.78", "73.28", "0.50"]
    assert averages[1][:6] == ["average", "without", "wnli", "82.50", "81.75", "0.75"]


def test_methods_are_columns(make, result, results):
    methods = {"svd": results, "lp": results | {"mrpc": result(70.0, 81.0)}}
    lines = printed(report.glue_table(make(methods=methods)))
    assert "m, p=1, 28% removed" in lines[0]
    assert row(lines, "task") == ["task", "n", "base", "svd", "lp"]
    assert row(lines, "mrpc") == ["mrpc", "408", "81.00", "80.00", "70.00"]
    assert "11.00 ± 0.12" in "\n".join(lines)


def test_without_a_baseline_there_is_a_column_of_scores(make, result):
    lines = printed(report.glue_table(make({"mrpc": result(80.0, None)}, baseline=None, plan=None, limit=20)))
    assert row(lines, "task") == ["task", "n", "score"]
    assert row(lines, "mrpc") == ["mrpc", "408", "80.00"]
    assert "(0 to 100), only the first 20 rows;" in "\n".join(lines)
