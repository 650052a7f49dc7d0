"""The command sweep, on tiny models: points, resume, what cannot be made, the page of its results."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from lpcompress.compression import whole_model
from lpcompress.evaluation import examination

RATIOS = ("--ratios", "0.5,0.7")


@pytest.fixture
def sweep(run, tiny_classifier, glue_dir, tmp_path, monkeypatch):
    """A function (*options, tasks) that runs the command on tiny classifiers; it returns exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for task in ("mrpc", "rte"):
        tiny_classifier(task, directory=f"models/{task}", num_hidden_layers=1)

    def call(*options, tasks="mrpc,rte"):
        scored = ("--tasks", tasks, "--data", glue_dir, "--limit", "8") if tasks else ()
        model = "models/{task}" if tasks else "models/mrpc"
        return run("sweep", model, *options, *scored, "--methods", "svd,coded", "--out", "found")

    return call


@pytest.fixture
def counted(monkeypatch):
    """Number of compressions and of scorings so far."""
    calls = {"compress": 0, "score": 0}

    def count(name, real):
        def counting(*a, **k):
            calls[name] += 1
            return real(*a, **k)

        return counting

    monkeypatch.setattr(whole_model, "compress", count("compress", whole_model.compress))
    monkeypatch.setattr(examination, "logits", count("score", examination.logits))
    return calls


def test_errors_alone(sweep, counted):
    code, out, err = sweep(*RATIOS, "--json", tasks="")
    assert code == 0, err
    found = json.loads(out)
    assert json.loads(Path("found/sweep.json").read_text()) == found
    assert [(point["method"], point["ratio"]) for point in found["points"]] == [
        ("svd", 0.5), ("svd", 0.7), ("coded", 0.5), ("coded", 0.7)
    ]  # fmt: skip
    for point in found["points"]:
        assert point["drop"] is None and 0 < point["bound"] < point["error"] == point["embedding_error"] < 1
        assert point["bytes"] < found["dense"]["bytes"]
    assert found["points"][0]["bytes"] > found["points"][1]["bytes"]
    assert found["bound"]["error"] == sorted(found["bound"]["error"], reverse=True)
    drawn = find_spec("matplotlib") is not None
    assert (Path("found/sweep.svg").is_file(), Path("found/sweep.png").is_file()) == (drawn, drawn)
    assert counted == {"compress": 4, "score": 0}
    code, again, _ = sweep(*RATIOS, "--json", "--resume", tasks="")
    assert (code, counted["compress"], json.loads(again)["points"]) == (0, 4, found["points"])


def test_scores_come_with_errors_and_the_dense_models_are_scored_once(sweep, counted, run):
    code, out, err = sweep(*RATIOS, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert counted == {"compress": 8, "score": 10}  # 2 tasks x 4 points, and 2 dense models
    scores = json.loads(Path("found/scores.json").read_text())["methods"]
    for point, each in zip(found["points"], scores.values(), strict=True):
        assert (point["drop"], point["drop_se"]) == (each["average_drop"], each["average_drop_se"])
        assert point["tasks"]["rte"]["score"] == each["tasks"]["rte"]["score"]
    assert found["dense"]["score"] == scores["svd, ratio 0.5"]["baseline_average"]
    code, table, err = sweep(*RATIOS, "--resume")
    assert (code, counted["score"], "drop ± se" in table) == (0, 10, True)
    code, out, err = run("report", "found/sweep.json", "found/scores.json", "--out", "page")
    assert code == 0, err
    page = Path("page/report.html").read_text()
    assert page.count("<figure>") >= 3 and "least error of Gaussian rows" in page
    assert "lpcompress sweep" in page and "--ratios 0.5,0.7 --methods svd,coded" in page


def test_a_size_that_cannot_be_made_does_not_stop_the_others(sweep):
    code, out, err = sweep("--ratios", "0.5,0.9999", "--json", tasks="")
    assert code == 0, err
    reasons = [point["reason"] for point in json.loads(out)["points"]]
    assert reasons[0] is reasons[2] is None and "Ask for a smaller ratio" in reasons[1]
    code, out, err = sweep("--ratios", "0.9999", "--overwrite", tasks="")
    assert (code, out) == (1, "") and "Ask for a smaller ratio" in err


def test_several_layers_share_a_size_of_the_model(sweep):
    code, out, err = sweep("--sizes", "0.6", "--layers", "all", "--calibration", "none", "--json", tasks="")
    assert code == 0, err
    found = json.loads(out)
    assert all(0.5 < point["bytes"] / found["dense"]["bytes"] < 0.65 for point in found["points"])
    assert all(point["embedding_error"] != point["error"] for point in found["points"])


@pytest.mark.parametrize(
    ("options", "tasks", "code", "sentence"),
    [
        (("--ratios", "0.5", "--sizes", "0.1"), "", 2, "ratios and sizes must not be given together"),
        (("--ratios", "50"), "", 2, "did you mean 0.5?"),
        ((), "mrcp", 2, "did you mean 'mrpc'?"),
    ],
)
def test_an_invalid_sweep_is_refused(sweep, options, tasks, code, sentence):
    found, out, err = sweep(*options, tasks=tasks)
    assert (found, out) == (code, "") and sentence in err


def test_results_are_not_replaced_unasked_and_a_template_needs_tasks(sweep, run):
    Path("found").mkdir()
    Path("found/sweep.json").write_text("{}")
    code, _, err = sweep(*RATIOS, tasks="")
    assert (code, "--overwrite" in err) == (1, True)
    code, _, err = run("sweep", "models/{task}", "--out", "other")
    assert (code, "Name the tasks with --tasks." in err) == (2, True)
