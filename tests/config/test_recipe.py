"""Tests of `Recipe`."""

import pytest

from lpcompress.config.recipe import PRECISIONS, Recipe
from lpcompress.errors import PlanError


def test_defaults():
    recipe = Recipe()
    assert (recipe.epochs, recipe.max_steps, recipe.learning_rate, recipe.batch_size) == (2.0, None, 5e-5, 32)
    assert (recipe.freeze, recipe.mixed_precision, recipe.seed, recipe.split) == ((), "no", 0, "train")
    assert (recipe.soft, recipe.temperature, recipe.hidden, recipe.train_limit) == (0.5, 2.0, 1.0, None)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"batch_size": 1.5}, "batch_size must be a whole number: rows per batch in each process. Got 1.5."),
        ({"batch_size": "32"}, "batch_size must be a whole number: rows per batch in each process. Got '32'."),
        (
            {"seed": 0.5},
            "seed must be a whole number: random seed of a new head, the order of rows and dropout. Got 0.5.",
        ),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295: random seed of a new head"),
        ({"epochs": True}, "epochs must be a number: passes over the training rows. Got True."),
        ({"epochs": "2"}, "epochs must be a number: passes over the training rows. Got '2'."),
        ({"epochs": float("nan")}, "epochs must be a finite number: passes over the training rows. Got nan."),
        ({"freeze": "embedding"}, "freeze must be a list of texts: wildcard for modules"),
        ({"mixed_precision": "bf-16"}, "mixed_precision must be one of no, bf16, fp16"),
        ({"bach_size": 3}, "unknown key 'bach_size'; did you mean 'batch_size'?"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(values, sentence):
    with pytest.raises(PlanError) as refused:
        Recipe(**values)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_accepted(precision):
    assert Recipe(mixed_precision=precision).mixed_precision == precision


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 1
