"""Tests that bounds, schema, help and error messages all come from a field's one declaration."""

from typing import Annotated, get_args

import numpy as np
import pytest
from pydantic import Field

from lpcompress.cli.options import option_of
from lpcompress.config.options import OneOf, Options, Shown, bounds, default_of, note
from lpcompress.config.plan import Plan
from lpcompress.config.recipe import Recipe
from lpcompress.config.saving import Saving
from lpcompress.config.scoring import Scoring
from lpcompress.errors import PlanError

FIELDS = [
    pytest.param(kind, name, id=f"{kind.__name__}.{name}")
    for kind in (Plan, Recipe, Scoring, Saving)
    for name in kind.model_fields
]


def facts(field, name):
    """Return the value of a field's bound, or None."""
    return next((getattr(each, name) for each in field.metadata if hasattr(each, name)), None)


def outside(field):
    """Yield values just outside the bounds of a field."""
    found = {name: facts(field, name) for name in ("gt", "ge", "lt", "le")}
    if found["gt"] is not None:
        yield found["gt"]
    if found["ge"] is not None:
        yield found["ge"] - 1
    if found["lt"] is not None:
        yield found["lt"]
    if found["le"] is not None:
        yield found["le"] + 1


def is_number(field):
    return bool({int, float} & {field.annotation, *get_args(field.annotation)}) and not note(field, Shown).text


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_every_field_is_described_and_has_a_default(kind, name):
    field = kind.model_fields[name]
    assert field.description and field.description[0].isupper() and not field.description.endswith(".")
    assert getattr(kind(), name) == field.get_default(call_default_factory=True)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_value_out_of_bounds_is_refused_with_the_description_of_its_field(kind, name):
    field = kind.model_fields[name]
    about = (
        field.description if field.description[1].isupper() else field.description[0].lower() + field.description[1:]
    )
    for value in outside(field):
        with pytest.raises(PlanError) as refused:
            kind(**{name: value})
        assert str(refused.value).startswith(f"{name} must be {bounds(field)}: {about}. Got {value}")
        assert str(refused.value)[-1] in ".?"


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_value_of_another_type_is_refused_with_the_name_of_the_field(kind, name):
    with pytest.raises(PlanError, match=f"^{name} must be .*Got <object object"):
        kind(**{name: object()})


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_boolean_is_no_number(kind, name):
    if kind.model_fields[name].annotation is not bool:
        with pytest.raises(PlanError, match=f"^{name} must be .*Got True"):
            kind(**{name: True})


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_every_word_of_a_field_is_accepted_and_the_nearest_is_suggested(kind, name):
    words = note(kind.model_fields[name], OneOf)
    for word in words.words if words else ():
        assert getattr(kind(**{name: word}), name) == word
        with pytest.raises(PlanError, match=f"^{name} must be one of {', '.join(words.words)}.*did you mean '"):
            kind(**{name: word + word[-1]})


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_misspelt_key_is_refused_and_the_right_one_is_suggested(kind, name):
    with pytest.raises(PlanError, match=f"unknown key '{name}z'; did you mean '{name}'"):
        kind(**{f"{name}z": 1})


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_the_help_of_an_option_is_made_from_the_field(kind, name):
    field = kind.model_fields[name]
    if note(field, Shown):
        option = option_of(name, field).annotation.__metadata__[0]
        assert field.description in option.help and bounds(field) in option.help
        assert f"Default: {default_of(field)}." in option.help or not default_of(field) or field.annotation is bool
        assert option.rich_help_panel == note(field, Shown).panel


def test_numpy_numbers_and_paths_are_accepted(tmp_path):
    plan = Plan(p=np.float32(1.5), seed=np.int64(3), calibration=tmp_path)
    assert (plan.p, plan.seed, plan.calibration) == (1.5, 3, str(tmp_path))
    assert (type(plan.p), type(plan.seed)) == (float, int)
    assert Recipe(batch_size=np.int64(4)).batch_size == 4


def test_a_new_field_alone_makes_a_new_option():
    class More(Options):
        share: Annotated[float, Field(gt=0, lt=1, description="Share of rows to draw"), Shown("Drawing")] = 0.5

    option = option_of("share", More.model_fields["share"]).annotation.__metadata__[0]
    assert option.help == "Share of rows to draw, above 0 and below 1. Default: 0.5."
    assert More.model_json_schema()["properties"]["share"]["exclusiveMaximum"] == 1
    with pytest.raises(PlanError, match=r"Got 50; did you mean 0\.5\?"):
        More(share=50)
