"""`eval-glue` without a model: it finds what to score, or says what is missing."""

import json
import os
import shlex
import shutil
import time
from pathlib import Path

import pytest

from lpcompress.checkpoints import files
from lpcompress.cli import conversion
from lpcompress.config.scoring import Scoring
from lpcompress.errors import LpCompressError
from lpcompress.evaluation import benchmark
from lpcompress.evaluation.surroundings import Surroundings, look_around


@pytest.fixture
def asked(monkeypatch):
    """What reaches the evaluation, which then stops."""
    found = {}

    def stop(model, tasks, plans, scoring, *, baseline, **others):
        found.update(model=model, tasks=tasks, plans=plans, baseline=baseline, scoring=scoring)
        raise LpCompressError("stop here")

    monkeypatch.setattr(benchmark, "evaluate", stop)
    return found


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty current directory."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def checkpoint(place, **report):
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text("{}")
    (place / "lpcompress.json").write_text(json.dumps(report))
    return place


def dense(place, **config):
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config))


def test_what_compress_just_wrote_is_scored_against_its_model(run, tiny_classifier, glue_dir, home):
    tiny_classifier("mrpc", directory=home / "model")
    scoring = ("--data", glue_dir, "--limit", "8")
    assert run("compress", "model", "--method", "svd", "--eval-glue", "mrpc", *scoring)[0] == 0
    code, out, err = run("eval-glue", *scoring, "--json")
    assert (code, err.splitlines()[0]) == (0, "scoring model-lpcompress against model on mrpc")
    scores = json.loads(Path("model-lpcompress/lpcompress.json").read_text())["glue"]
    assert json.loads(out)["tasks"]["mrpc"]["drop"] == scores["tasks"]["mrpc"]["drop"]
    os.chdir("model-lpcompress")
    assert run("eval-glue", *scoring)[2].startswith("scoring . against ../model on mrpc")


def test_the_newest_of_several_is_taken(home):
    for age, name in enumerate(("b", "a", "c")):
        checkpoint(home / name, model="org/x-mrpc")
        os.utime(home / name / "lpcompress.json", times=(time.time() - age,) * 2)
    (home / ".hidden").mkdir()
    shutil.copytree(home / "b", home / ".hidden/b")
    assert look_around(Path()) == Surroundings(Path("b"), "org/x-mrpc", "org/x-mrpc", "mrpc")


@pytest.mark.parametrize(
    ("report", "config", "task"),
    [
        ({"model": "./x", "glue": {"tasks": {"rte": {}}}}, {"finetuning_task": "cola"}, "rte"),
        ({"model": "./x"}, {"finetuning_task": "glue:stsb"}, "stsb"),
        ({"model": "textattack/roberta-base-SST-2"}, {}, "sst2"),
        ({"model": "textattack/bert-base-uncased-STS-B"}, {}, "stsb"),
        ({"model": "org/model_mnli.v2"}, {}, "mnli"),
        ({"model": "org/primrte"}, {}, None),
        ({"model": 3, "glue": []}, {}, None),
    ],
)
def test_the_task_is_told_by_scores_config_or_name(home, report, config, task):
    dense(home / "x", **config)
    checkpoint(home / "small", **report)
    assert look_around(home).task == task


def test_another_revision_is_no_baseline(home):
    checkpoint(home / "small", model="org/x-mrpc", origin={"revision": "v1"})
    assert look_around(home) == Surroundings(home / "small", "org/x-mrpc", None, "mrpc")


def test_a_record_of_fine_tuning_tells_the_task(home):
    dense(home / "x")
    (checkpoint(home / "small", model="./x") / "finetuning.json").write_text('{"task": "qnli"}')
    assert look_around(home) == Surroundings(home / "small", "./x", str(home / "x"), "qnli")


def commands(screen):
    """The commands that a screen shows."""
    return [shlex.split(line)[1:] for line in screen.splitlines() if line.startswith("  lpcompress ")]


def works(run, words, asked, monkeypatch):
    """Whether a shown command gets as far as its work."""
    monkeypatch.setattr(files, "find", lambda _: {})  # the models are on the Hub
    monkeypatch.setattr(
        conversion.Conversion, "convert", lambda *_: (_ for _ in ()).throw(LpCompressError("stop here"))
    )
    code, _, err = run(*words)
    return (code, err.splitlines()[-1]) == (1, "Error: stop here")


@pytest.mark.parametrize(
    ("prepare", "options", "sentence"),
    [
        (lambda home: None, (), "None is named, and there is no compressed checkpoint here."),
        (lambda home: None, ("--ratio", "0.3"), "Which model is to be compressed and scored? None is named."),
        (lambda home: checkpoint(home / "s", model="org/x"), (), "To score it, give its task, after --tasks."),
        (
            lambda home: checkpoint(home / "a b", model="./gone", glue={"tasks": {"rte": {}}}),
            (),
            "give what it was made from, after --baseline.\nIts report names ./gone, which is not beside it.",
        ),
        (
            lambda home: checkpoint(home),
            (),
            ". is a compressed checkpoint. To score it, give its task, after --tasks and",
        ),
    ],
)
def test_else_a_screen_says_what_is_missing_and_shows_three_commands_that_work(
    run, home, asked, monkeypatch, prepare, options, sentence
):
    prepare(home)
    code, out, err = run("eval-glue", *options)
    assert (code, out) == (2, "")
    assert sentence in err and len(err.splitlines()) < 20
    shown = commands(err)
    assert len(shown) == 3
    assert all(works(run, words, asked, monkeypatch) for words in shown)


def test_what_is_given_completes_what_is_found(run, home, asked):
    checkpoint(home / "small", model="./gone")
    run("eval-glue", "--tasks", "rte", "--baseline", "org/x", "--limit", "5")
    assert (asked["model"], asked["baseline"], asked["tasks"]) == ("small", "org/x", ["rte"])
    assert asked["scoring"] == Scoring(limit=5)


def test_no_name_of_a_directory_commands_the_terminal(run, home):
    checkpoint(home / "a\x1b[31m", model="./gone")
    assert "\x1b" not in run("eval-glue")[2]
