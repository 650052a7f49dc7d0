"""Tests of the search for the smallest size that passes."""

import json
from pathlib import Path

import pytest

from lpcompress.compression import whole_model
from lpcompress.config.plan import Plan
from lpcompress.errors import BudgetError, PlanError, UnsuitableError
from lpcompress.evaluation.gates import Gates
from lpcompress.evaluation.search import COUNT, Sizes, smallest_passing
from lpcompress.evaluation.trials import trials_table


@pytest.fixture
def exam(make, result, tiny_model):
    """A function (drop of a plan) -> an examination in which a model loses that many points, with a gate of 1 point."""

    class Exam:
        def __init__(self, drop):
            self.model, self.drop, self.plans = tiny_model(), drop, []

        def of_plan(self, name, plan):
            self.plans.append(plan)
            return result(80.0 - self.drop(plan), 80.0)

        def evaluation(self, found):
            return make({"mrpc": found}, max_drop=1.0)

    return Exam


def found_by(exam, **plan):
    steps = []
    return smallest_passing(exam, Plan(**plan), lambda text: steps.append(text)), steps


@pytest.mark.parametrize("largest", [0.1, 0.5, 0.937, 0.99, 0.9958])
def test_the_smallest_size_that_passes_is_found_in_six_trials(exam, largest):
    every = [Sizes("ratio", 1.0).at(step)["ratio"] for step in range(COUNT)]
    search, steps = found_by(exam(lambda plan: 0.0 if plan.ratio <= largest else 5.0), method="svd")
    assert search.plan == Plan(method="svd", ratio=max(ratio for ratio in every if ratio <= largest))
    assert len(search.tried) == 6 and len(steps) == 6
    assert search.scores.first.mean.average_drop == 0 and not search.scores.failures
    smaller = [trial.size["ratio"] for trial in search.tried if not trial.passed]
    assert all(ratio > search.plan.ratio for ratio in smaller)


def test_if_no_size_passes_there_is_no_plan_but_the_scores_of_the_largest(exam):
    search, _ = found_by(exam(lambda plan: 1 + plan.ratio))
    assert search.plan is None and [trial.passed for trial in search.tried] == [False] * 6
    assert search.tried[-1].size == {"ratio": 0.1}
    assert search.scores.failures == ["average: drop 1.10 exceeds 1", "mrpc: drop 1.10 exceeds 1"]


def test_sizes_that_cannot_be_made_do_not_pass(exam):
    def drop(plan):
        if plan.ratio > 0.6:
            raise BudgetError("the codes do not fit.")
        return 0.0

    search, steps = found_by(exam(drop))
    assert search.plan.ratio <= 0.6 and steps[0].endswith("the codes do not fit.")
    assert search.tried[0].document() == {"ratio": 0.9387, "passed": False, "reason": "the codes do not fit."}
    with pytest.raises(UnsuitableError, match="nothing fits"):
        found_by(exam(lambda _: (_ for _ in ()).throw(BudgetError("nothing fits"))))


def test_several_layers_are_sized_as_a_model(exam):
    search, _ = found_by(exam(lambda plan: 0.0 if plan.target_size > 0.3 else 5.0), layers="all")
    assert search.plan.layers == ("all",) and 0.3 < search.plan.target_size < 0.35
    ends = [Sizes("target_size", 0.8).at(step)["target_size"] for step in (0, COUNT - 1)]
    assert ends == [0.92, 0.2033]  # a fifth of the model is not chosen


def test_gates_that_say_nothing_of_the_task_are_refused():
    Gates({"rte": 1.0}, {}).refuse_idle("rte")
    Gates({}, {}).refuse_idle("rte")
    with pytest.raises(PlanError, match=r"must be for mrpc, for average, or for all\. Got only rte, sst2"):
        Gates({"rte": 1.0}, {"sst2": 0.9}).refuse_idle("mrpc")


def test_the_table_lists_the_largest_first(exam):
    search, _ = found_by(exam(lambda plan: 0.0 if plan.ratio <= 0.5 else 5.0))
    assert trials_table(search.tried).row_count == 6


@pytest.fixture
def command(run, tiny_classifier, glue_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny_classifier("mrpc", directory="mrpc")

    def call(*options):
        given = ("--method", "svd", "--eval-glue", "mrpc", "--data", glue_dir, "--limit", "8", "--out", "small")
        return run("compress", model, *given, *options)

    return call


def test_compress_writes_the_smallest_file_that_passes(command):
    code, out, err = command("--max-drop", "200", "--json")
    assert code == 0, err
    report = json.loads(out)
    tried = report["tried"]
    chosen = [trial for trial in tried if trial["passed"]][-1]
    assert report["plan"] == {"method": "svd", "ratio": chosen["ratio"]}
    assert report["glue"]["average_drop"] == chosen["drop"]
    assert report["layers"][0]["removed"] >= chosen["ratio"]
    assert next(trial for trial in tried if not trial["passed"])["reason"].startswith("bert.embeddings")
    assert json.loads(Path("small/lpcompress.json").read_text())["tried"] == tried
    assert "6 sizes tried" in err and "passes" in err
    assert run_again(command) == tried


def run_again(command):
    """The sizes tried by a resumed run, which compresses only what it writes and the sizes that cannot be made."""
    calls, true = [], whole_model.compress
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_model, "compress", lambda *a, **k: calls.append(1) or true(*a, **k))
        code, out, err = command("--max-drop", "200", "--json", "--resume", "--overwrite")
    assert code == 0, err
    tried = json.loads(out)["tried"]
    assert len(calls) == 1 + sum("drop" not in trial for trial in tried)
    return tried


def test_if_nothing_passes_there_is_no_checkpoint_and_exit_code_3(command):
    code, out, err = command("--max-drop", "-200", "--json", "--junit", "junit.xml")
    assert code == 3
    found = json.loads(out)
    assert found["out"] is None and len(found["tried"]) == 6 and found["glue"]["gates"]["passed"] is False
    assert "No size passes, so no checkpoint was written." in err
    assert not Path("small").exists() and Path("small.parts").is_dir() and Path("junit.xml").is_file()


def test_a_recovery_is_a_limit_too(command):
    code, out, err = command("--min-recovery", "0", "--json")
    assert code == 0, err
    assert all("recovery" in trial for trial in json.loads(out)["tried"] if trial["passed"])


def test_with_a_size_the_gate_is_only_a_gate(command):
    code, out, _ = command("--max-drop", "-200", "--ratio", "0.5", "--json")
    assert (code, "tried" in json.loads(out), Path("small").is_dir()) == (3, False, True)
    assert not Path("small.parts").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--max-drop", "1", "--dry-run"), "Leave out dry_run and save_plan."),
        (("--resume",), "resume is for the search that max_drop"),
        (("--max-drop", "1", "--ratio", "0.5", "--resume"), "resume is for the search"),
        (("--max-drop", "rte=1"), "must be for mrpc, for average, or for all. Got only rte."),
    ],
)
def test_options_that_do_not_go_together_are_refused(command, options, sentence):
    code, out, err = command(*options)
    assert (code, out, sentence in err) == (2, "", True), err
    assert not Path("small").exists()
