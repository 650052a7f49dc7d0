"""Tests of `lpcompress finetune`: arguments of the training, and options refused before it."""

import json
from pathlib import Path

import pytest

from lpcompress.config.recipe import Recipe
from lpcompress.config.scoring import Scoring
from lpcompress.finetuning import run as finetuning


@pytest.fixture
def passed(monkeypatch):
    """The arguments that the command passes to `tune`."""
    found = {}

    def take(model, task, out, recipe, scoring, *, progress, **others):
        found.update(others, model=model, task=task, out=out, recipe=recipe, scoring=scoring)
        return {"task": task}

    monkeypatch.setattr(finetuning, "tune", take)
    return found


def test_every_option_reaches_the_function(run, passed):
    given = "m --task rte --out o --data DIR --limit 5 --label-map l.yaml --epochs 3 --max-steps 7 --batch-size 4"
    given += " --learning-rate 1e-4 --freeze embedding --freeze *.0.* --mixed-precision bf16 --train-limit 9 --seed 2"
    given += " --split validation --soft 0.25 --temperature 3 --hidden 0 --distill t --resume --overwrite --json"
    code, out, _ = run("finetune", *given.split())
    assert (code, json.loads(out)) == (0, {"task": "rte"})
    assert passed["scoring"] == Scoring(data="DIR", limit=5, label_map=Path("l.yaml"))
    assert passed["recipe"] == Recipe(
        epochs=3,
        max_steps=7,
        batch_size=4,
        learning_rate=1e-4,
        freeze=("embedding", "*.0.*"),
        mixed_precision="bf16",
        train_limit=9,
        seed=2,
        split="validation",
        soft=0.25,
        temperature=3,
        hidden=0,
    )
    assert (passed["model"], passed["task"], passed["out"], passed["distill"]) == ("m", "rte", Path("o"), "t")
    assert (passed["resume"], passed["overwrite"], passed["device"]) == (True, True, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--epochs", "0"], "epochs must be above 0: passes over the training rows. Got 0."),
        (["--mixed-precision", "bf-16"], "did you mean 'bf16'?"),
        (["--train-limit", "0"], "train_limit must be at least 1"),
        (["--limit", "0"], "limit must be at least 1"),
        (["--seed", "-1"], "seed must be from 0 to 4294967295"),
    ],
)
def test_an_invalid_option_is_one_line_and_exit_code_2(run, arguments, sentence):
    code, out, err = run("finetune", "m", "--task", "rte", "--out", "o", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert sentence in err
