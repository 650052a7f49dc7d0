"""Tests of `Scoring`, and of the split of options between plan and scoring."""

from pathlib import Path

import pytest

from lpcompress.config.plan import Plan
from lpcompress.config.scoring import Scoring, wishes
from lpcompress.errors import PlanError


def test_defaults():
    scoring = Scoring()
    assert (scoring.data, scoring.limit, scoring.batch_size, scoring.label_map) == ("hub", None, 32, None)
    assert (scoring.primary, scoring.max_drop, scoring.min_recovery, scoring.seed) == ({}, {}, {}, 0)


def test_a_limit_applies_to_all_or_to_those_named():
    scoring = Scoring(max_drop=1, min_recovery={"rte": "0.9", "average": 0.98}, data=Path("d"), primary=None)
    assert (scoring.max_drop, scoring.min_recovery) == ({"": 1.0}, {"rte": 0.9, "average": 0.98})
    assert (scoring.data, scoring.primary) == ("d", {})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"limit": 0}, "limit must be at least 1: maximum number of rows of each split. Got 0"),
        ({"limit": True}, "limit must be a whole number"),
        ({"primary": "f1"}, "primary must be a mapping: metric to use as a task's score, such as mrpc=f1. Got 'f1'."),
        ({"max_drop": {"rte": "much"}}, "max_drop.rte must be a number"),
        ({"max_drop": True}, "max_drop must be a number"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(values, sentence):
    with pytest.raises(PlanError) as refused:
        Scoring(**values)
    assert str(refused.value).startswith(sentence)


def test_options_are_split_between_plan_and_scoring():
    plans, scoring = wishes(None, None, (), {"ratio": 0.5, "limit": 7, "max_drop": 1})
    assert (plans, scoring) == ({"auto": Plan(ratio=0.5)}, Scoring(limit=7, max_drop=1))
    with pytest.raises(PlanError, match="unknown key 'ratoi'; did you mean 'ratio'"):
        wishes(None, None, (), {"ratoi": 0.5})


def test_without_a_compression_option_there_is_no_plan():
    assert wishes(None, None, (), {"limit": 7, "seed": 3}) == ({}, Scoring(limit=7, seed=3))
    assert wishes(Plan(), None, (), {})[0] == {"auto": Plan()}


@pytest.mark.parametrize(
    ("plan", "scoring", "options", "seeds"),
    [
        (Plan(), None, {"seed": 5}, (5, 5)),
        (Plan(seed=3), None, {}, (3, 3)),
        (Plan(), Scoring(seed=3), {}, (3, 3)),
        (Plan(seed=3), Scoring(seed=4), {}, (3, 4)),
        (Plan(seed=3), Scoring(seed=4), {"seed": 5}, (5, 5)),
        (Plan(seed=3), None, {"seed": 0}, (0, 0)),
        (Plan(), None, {}, (0, 0)),
    ],
)
def test_a_seed_is_used_for_both_unless_each_has_its_own(plan, scoring, options, seeds):
    plans, scoring = wishes(plan, scoring, (), options)
    assert (plans["auto"].seed, scoring.seed) == seeds


def test_methods_share_the_options():
    plans, _ = wishes(None, None, ["svd", "messi"], {"ratio": 0.4, "clusters": 2})
    assert plans == {"svd": Plan(method="svd", ratio=0.4), "messi": Plan(method="messi", ratio=0.4, clusters=2)}
    assert wishes(None, None, ["svd"], {})[0] == {"svd": Plan(method="svd")}
