"""--revision and --subfolder, which every command takes that reads a model."""

import json
from pathlib import Path

import pytest

from lpcompress.cli.app import COMMANDS
from lpcompress.config.origin import Origin
from lpcompress.evaluation import benchmark
from lpcompress.pages.documents import read_sections

NO_MODEL = {"verify", "report", "push", "doctor", "demo"}  # they read directories, or no model of the user's
OPTIONS = {
    "eval-glue": ("--tasks", "mrpc"),
    "sweep": ("--out", "found"),
    "finetune": ("--task", "mrpc", "--out", "found"),
    "densify": ("found",),
    "export": ("found",),
}


@pytest.mark.parametrize("command", sorted({each.name for each in COMMANDS} - NO_MODEL))
def test_a_directory_has_no_revision_for_any_command(run, tiny, glue_dir, command):
    data = ("--data", glue_dir) if command in ("eval-glue", "finetune") else ()
    code, out, err = run(command, tiny, *OPTIONS.get(command, ()), *data, "--revision", "v1")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith("revision is for a model on the Hub. tiny is a local directory: leave it out.")
    assert not Path("found").exists()


@pytest.fixture
def nested(tiny_classifier, tmp_path, monkeypatch):
    """A repository whose folder `encoder` holds a classifier, and a directory for results."""
    monkeypatch.chdir(tmp_path)
    tiny_classifier("mrpc", directory=tmp_path / "models/encoder")
    return "models"


def test_a_folder_is_scored_and_the_result_and_its_page_name_it(run, nested, glue_dir):
    options = ("--subfolder", "encoder", "--tasks", "mrpc", "--data", glue_dir, "--limit", "4")
    code, out, err = run("eval-glue", nested, *options, "--out", "scores.json", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["model"], found["origin"], found["tasks"]["mrpc"]["model"]) == (
        "models",
        {"subfolder": "encoder"},
        "models",
    )
    [section] = read_sections([Path("scores.json")])
    assert section.command is not None and "--subfolder encoder" in section.command
    assert (
        benchmark.eval_glue(nested, "mrpc", data=str(glue_dir), limit=4, subfolder="encoder")["tasks"]["mrpc"]["score"]
        == found["tasks"]["mrpc"]["score"]
    )
    assert "origin" not in benchmark.eval_glue("models/encoder", "mrpc", data=str(glue_dir), limit=4)


def test_a_folder_is_no_matter_of_the_baseline(run, nested, tiny_classifier, glue_dir):
    tiny_classifier("mrpc", directory=Path("base"), seed=1)
    options = ("--subfolder", "encoder", "--baseline", "base", "--tasks", "mrpc", "--data", glue_dir, "--limit", "4")
    code, _, err = run("eval-glue", nested, *options, "--json")
    assert code == 0, err


@pytest.mark.parametrize("tasks", ["", "mrpc"])
def test_a_folder_is_swept(run, nested, glue_dir, tasks):
    scored = ("--tasks", tasks, "--data", glue_dir, "--limit", "4") if tasks else ()
    options = ("--subfolder", "encoder", "--methods", "svd", "--ratios", "0.5", *scored, "--out", "found")
    code, out, err = run("sweep", nested, *options, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["model"], found["settings"]["subfolder"]) == ("models", "encoder")
    assert 0 < found["points"][0]["bytes"] < found["dense"]["bytes"]


def test_a_folder_is_trained(run, nested, glue_dir):
    options = ("--task", "mrpc", "--data", glue_dir, "--split", "validation", "--max-steps", "1", "--out", "tuned")
    code, out, err = run("finetune", nested, "--subfolder", "encoder", *options, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert (record["model"], record["origin"], record["head"]) == ("./models", {"subfolder": "encoder"}, "kept")
    [section] = read_sections([Path("tuned/finetuning.json")])
    assert section.command is not None and "--subfolder encoder" in section.command


def test_only_what_was_given_counts():
    assert Origin(revision=None, subfolder=None).given() == {}
