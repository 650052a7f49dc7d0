"""Tests of `lpcompress eval-glue`: arguments of the evaluation, and exit codes."""

import json
from pathlib import Path

import pytest

from lpcompress.config.plan import Plan
from lpcompress.config.scoring import Scoring
from lpcompress.evaluation import benchmark
from lpcompress.evaluation.evaluation import Evaluation
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, OK, TaskResult
from lpcompress.evaluation.setup import Setup
from lpcompress.processes import Workers

FINE = TaskResult(OK, "m", score=58.0, baseline_score=60.0, drop=2.0, se=0.1)


def evaluation(methods=("",), max_drop=None, **tasks):
    """Return an evaluation with made-up results, the same for every method."""
    setup = Setup(Workers("cpu"), Scoring(max_drop=max_drop or {}))
    return Evaluation.of("m", "m", dict.fromkeys(methods, tasks or {"rte": FINE}), setup, {})


@pytest.fixture
def passed(monkeypatch):
    """The arguments that the command passes to `benchmark.evaluate`, and the evaluation that it gets back."""
    found = {"evaluation": evaluation()}

    def take(model, tasks, plans, scoring, *, progress, **others):
        found.update(others, model=model, tasks=tasks, plans=plans, scoring=scoring)
        return found["evaluation"]

    monkeypatch.setattr(benchmark, "evaluate", take)
    return found


def test_every_option_reaches_the_function(run, passed, tmp_path):
    (tmp_path / "plan.yaml").write_text("method: messi\nratio: 0.4\nseed: 3\n")
    given = f"a/{{TASK}} --tasks mrpc,rte --tasks ax --data DIR --config {tmp_path}/plan.yaml --p 1.5 --limit 7"
    given += " --batch-size 4 --out r.json --resume --label-map l.yaml --primary mrpc=f1 --max-drop 1 --max-drop rte=3"
    given += " --min-recovery average=0.98,0.9 --device cpu --json"
    code, out, _ = run("eval-glue", *given.split())
    assert (code, json.loads(out)) == (0, passed["evaluation"].document())
    assert (passed["model"], passed["tasks"], passed["baseline"]) == ("a/{TASK}", ["mrpc,rte", "ax"], None)
    assert (passed["out"], passed["resume"], passed["device"]) == (Path("r.json"), True, "cpu")
    assert passed["plans"] == {"messi": Plan(method="messi", ratio=0.4, p=1.5, seed=3)}
    assert passed["scoring"] == Scoring(
        data="DIR",
        limit=7,
        batch_size=4,
        label_map=Path("l.yaml"),
        primary={"mrpc": "f1"},
        max_drop={"": 1.0, "rte": 3.0},
        min_recovery={"average": 0.98, "": 0.9},
        seed=3,
    )


def test_methods_replace_the_method_of_a_file(run, passed, tmp_path):
    (tmp_path / "plan.yaml").write_text("method: messi\n")
    run("eval-glue", "m", "--methods", "svd, lp", "--config", tmp_path / "plan.yaml", "--json")
    assert passed["plans"] == {"svd": Plan(method="svd"), "lp": Plan(method="lp")}


def test_any_config_file_turns_compression_on_even_an_empty_one(run, passed, tmp_path):
    (tmp_path / "plan.yaml").write_text("# nothing\n")
    run("eval-glue", "m", "--config", tmp_path / "plan.yaml", "--json")
    assert [plan.ratio for plan in passed["plans"].values()] == [0.28]


def test_without_a_compression_option_nothing_is_compressed(run, passed):
    run("eval-glue", "m", "--baseline", "b", "--seed", "5", "--json")
    assert (passed["plans"], passed["baseline"], passed["scoring"]) == ({}, "b", Scoring(seed=5))


@pytest.mark.parametrize("file", ["", "seed: 3\n"])
def test_a_seed_goes_to_fit_and_bootstrap(run, passed, tmp_path, file):
    (tmp_path / "plan.yaml").write_text(file)
    run("eval-glue", "m", "--seed", "5", "--config", tmp_path / "plan.yaml", "--json")
    assert (passed["plans"]["auto"].seed, passed["scoring"].seed) == (5, 5)
    run("eval-glue", "m", "--seed", "0", "--ratio", "0.5", "--json")
    assert (passed["plans"]["auto"].seed, passed["scoring"].seed) == (0, 0)


@pytest.mark.parametrize(
    ("tasks", "max_drop", "code"),
    [
        ({"mrpc": FINE, "rte": TaskResult(NOT_AVAILABLE, reason="none")}, None, 0),
        ({"mrpc": TaskResult(FAILED, reason="no memory")}, None, 1),
        ({"rte": FINE}, {"rte": 2.0}, 0),
        ({"rte": FINE, "mrpc": TaskResult(FAILED, reason="no memory")}, {"rte": 1.0}, 3),
    ],
)
@pytest.mark.parametrize("methods", [[""], ["svd", "lp"]])
def test_the_exit_code_is_the_verdict(run, passed, tasks, max_drop, code, methods):
    passed["evaluation"] = evaluation(methods, max_drop, **tasks)
    found, out, err = run("eval-glue", "m", "--json")
    assert (found, json.loads(out)) == (code, passed["evaluation"].document())
    assert (f"Gate: {'lp ' * (len(methods) > 1)}rte: drop 2.00 exceeds 1" in err) == (code == 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ratio", "28"], "Got 28; did you mean 0.28?"),
        (["--methods", "svd,codd"], "did you mean 'coded'?"),
        (["--methods", "svd", "--method", "lp"], "must not be given together"),
        (
            ["--max-drop", "rte=much"],
            "max_drop.rte must be a number: maximum drop of the average or a task, in points",
        ),
        (["--min-recovery", "x"], "min_recovery must be a number"),
    ],
)
def test_an_invalid_option_is_one_line_and_exit_code_2(run, arguments, sentence):
    code, out, err = run("eval-glue", "m", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert sentence in err


def test_only_the_first_of_several_processes_prints(run, passed, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    passed["evaluation"] = evaluation(max_drop={"rte": 1.0})
    assert run("eval-glue", "m", "--json") == (3, "", "")
    assert run("eval-glue", "m", "--ratio", "28") == (2, "", "")
    monkeypatch.setenv("RANK", "0")
    code, out, err = run("eval-glue", "m", "--json")
    assert (code, json.loads(out), err) == (3, passed["evaluation"].document(), "Gate: rte: drop 2.00 exceeds 1\n")
