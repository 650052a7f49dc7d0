"""Tests of `Plan`: values, files, schema and the plans of an evaluation."""

import json
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lpcompress.config.plan import NAMES, Plan, plans_for
from lpcompress.errors import PlanError
from lpcompress.methods import METHODS

FILES = sorted((Path(__file__).parent.parent.parent / "configs").glob("*.yaml"))
SCHEMA = Path(__file__).parent.parent.parent / "lpcompress" / "config" / "plan.schema.json"
CONFIGS = [path for path in FILES if not path.name.startswith("glue-")]  # the glue-* files map tasks to models


def test_defaults():
    plan = Plan()
    assert (plan.method, plan.p, plan.ratio, plan.clusters) == ("auto", 2.0, 0.28, None)
    assert (plan.row_weights, plan.exponent, plan.layers, plan.seed) == ("zipf", None, ("embedding",), 0)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_parses_and_begins_with_a_comment(path):
    plan = Plan.from_yaml(path)
    assert 0 < (plan.ratio or plan.target_size) < 1
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("method", NAMES)
def test_every_method_is_accepted(method):
    assert Plan(method=method).method == method


@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.floats(1, 2), st.floats(0, 2), st.integers(0, 2**63 - 1))
def test_every_number_within_bounds_is_accepted(ratio, p, exponent, seed):
    plan = Plan(ratio=ratio, p=p, exponent=exponent, seed=seed)
    assert (plan.ratio, plan.p, plan.exponent, plan.seed) == (ratio, p, exponent, seed)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"ratio": 28},
            "ratio must be above 0 and below 1: share of each layer's stored bytes to REMOVE. Got 28; did "
            "you mean 0.28?",
        ),
        ({"ratio": 0}, "ratio must be above 0 and below 1: share of each layer's stored bytes to REMOVE. Got 0."),
        ({"ratio": 1}, "ratio must be above 0 and below 1: share of each layer's stored bytes to REMOVE. Got 1."),
        (
            {"ratio": float("nan")},
            "ratio must be above 0 and below 1: share of each layer's stored bytes to REMOVE. Got nan.",
        ),
        ({"ratio": "much"}, "ratio must be a number: share of each layer's stored bytes to REMOVE. Got 'much'."),
        ({"p": 3}, "p must be from 1 to 2: exponent of the l_p norm to minimize. Got 3."),
        ({"p": 0.5}, "p must be from 1 to 2: exponent of the l_p norm to minimize. Got 0.5."),
        (
            {"method": "codd"},
            "method must be one of auto, coded, adaptive, lp, messi, svd, sketch: factorization method; "
            "auto fits several and keeps the best. Got 'codd'; did you mean 'coded'?",
        ),
        (
            {"method": "sketch", "clusters": 2},
            "method 'sketch' has one subspace, so clusters must be 1 or left out. Got 2. Leave clusters out,"
            " or choose a method with several subspaces.",
        ),
        (
            {"clusters": 0},
            "clusters must be at least 1: number of subspaces. Got 0; if left out, it is chosen by the method.",
        ),
        (
            {"clusters": 2.5},
            "clusters must be a whole number: number of subspaces. Got 2.5; if left out, it is chosen by the method.",
        ),
        (
            {"method": "svd", "clusters": 3},
            "method 'svd' has one subspace, so clusters must be 1 or left out. Got 3. Leave clusters out, or"
            " choose a method with several subspaces.",
        ),
        (
            {"row_weights": "zpif"},
            "row_weights must be one of zipf, uniform, or a file of token counts: weights of the "
            "embedding's rows; zipf estimates token frequency from the tokenizer. Got 'zpif', which is not a file; "
            "did you mean 'zipf'?",
        ),
        (
            {"exponent": 3},
            "exponent must be from 0 to 2: exponent applied to token frequency to get row weights. Got 3; "
            "if left out, it is chosen to suit the size.",
        ),
        (
            {"exponent": -0.5},
            "exponent must be from 0 to 2: exponent applied to token frequency to get row weights. Got -0.5;"
            " if left out, it is chosen to suit the size.",
        ),
        (
            {"exponent": "half"},
            "exponent must be a number: exponent applied to token frequency to get row weights. Got 'half'; "
            "if left out, it is chosen to suit the size.",
        ),
        (
            {"exponent": True},
            "exponent must be a number: exponent applied to token frequency to get row weights. Got True; "
            "if left out, it is chosen to suit the size.",
        ),
        (
            {"layers": []},
            "layers must name at least one pattern, none of them empty. Write 'embedding' or a wildcard such"
            " as '*.word_embeddings'.",
        ),
        (
            {"layers": [1]},
            "layers must be text: wildcard for module names, or one of embedding, linear, attention, ffn, "
            "conv, all; repeatable. Got 1.",
        ),
        ({"seed": -1}, "seed must be from 0 to 9223372036854775807: random seed. Got -1."),
        ({"seed": True}, "seed must be a whole number: random seed. Got True."),
        (
            {"target_size": 70},
            "target_size must be above 0 and below 1: share of the whole model's stored bytes to KEEP "
            "(instead of ratio). Got 70; did you mean 0.7?",
        ),
        (
            {"max_bytes": "much"},
            "max_bytes must be a size such as 40MB or 40000000: largest size of the whole model's weight "
            "file, such as 40MB (instead of ratio). Got 'much'.",
        ),
        (
            {"max_bytes": "1.2.3MB"},
            "max_bytes must be a size such as 40MB or 40000000: largest size of the whole model's weight "
            "file, such as 40MB (instead of ratio). Got '1.2.3MB'.",
        ),
        (
            {"ratio": 0.3, "target_size": 0.7},
            "ratio and target_size must not be given together: each sets the size. Leave one out.",
        ),
        (
            {"allocation": {"a": {"method": "svd", "ratio": 2}}},
            "allocation.a.ratio must be above 0 and below 1: share of this layer's stored bytes to remove. "
            "Got 2; did you mean 0.02?",
        ),
        (
            {"allocation": {"a": {"method": "svd", "rato": 0.2}}},
            "unknown key 'rato' at allocation.a; did you mean 'ratio'? Known keys: delta, method, ratio.",
        ),
        (
            {"allocation": {"a": {"method": "svd"}}},
            "a layer of an allocation must have either ratio or delta.",
        ),
        (
            {"rato": 0.28},
            "unknown key 'rato'; did you mean 'ratio'? Known keys: allocation, calibration, clusters, digest, "
            "exponent, layers, max_bytes, method, p, ratio, row_weights, seed, target_size.",
        ),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(values, sentence):
    with pytest.raises(PlanError) as refused:
        Plan(**values)
    assert str(refused.value) == sentence


def test_row_weights_may_be_a_file(tmp_path):
    counts = tmp_path / "counts.txt"
    counts.write_text("the 3\n")
    assert Plan(row_weights=str(counts)).row_weights == str(counts)


def test_a_plan_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Plan().ratio = 0.5


def test_one_pattern_needs_no_list(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("layers: '*.word_embeddings'\n")
    assert Plan.from_yaml(path).layers == ("*.word_embeddings",)


def test_overrides_win_over_the_file(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("ratio: 0.4\np: 1.0\n")
    plan = Plan.from_yaml(path, {"ratio": 0.6})
    assert (plan.ratio, plan.p) == (0.6, 1.0)


# 300 bytes that stand for a list of ten to the power nine entries
LAUGHS = "layers: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{key}: &{key} [{','.join([f'*{before}'] * 10)}]\n" for before, key in pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rato: 0.28\n", "unknown key 'rato'; did you mean 'ratio'?"),
        ("ratio: 28\n", "did you mean 0.28?"),
        ("- ratio\n", "must hold keys and values"),
        ("1: 2\n", "must hold keys and values"),
        ("ratio: 0.3\nlayers: [\n", "line 3: not valid YAML"),
        ("ratio: 0.3\np: 1\nratio: 0.9\n", "line 3: 'ratio' is given twice. Remove one."),
        ("layers: &some [a, b]\nmethod: *some\n", "line 2: references are not read. Write the value of '*some'."),
        (LAUGHS, "references are not read"),
        ("layers: " + "[" * 5000, "not valid YAML"),
        ("seed: " + "9" * 5000, "not valid YAML"),  # Python refuses to read it
        (
            "seed: 0x" + "f" * 5000,
            "seed must be from 0 to 9223372036854775807: random seed. Got a number of 20000 bits",
        ),
        ("ratio: 1e999999", "Got '1e999999'"),
        ("ratio: " + "1:" * 500 + "1.5", "not valid YAML"),  # sexagesimal, and larger than any float
        ("seed: 2024-99-99", "not valid YAML"),
        ("seed: !!int", "not valid YAML"),
        ("layers: !!set {a, b}", "line 1: not valid YAML"),
        ('layers: ["\\ud800*"]', r"line 1: '\ud800*' holds half a character. Write it whole."),
        ('"\\ud800": 1', "holds half a character"),
        ("method: " + "x" * 100_000, "Got 'xxxxxx"),
        ("x" * 900 + ": 1", "unknown key 'xxxxxx"),
    ],
)
def test_an_error_in_a_file_names_the_file(tmp_path, text, sentence):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(PlanError) as refused:
        Plan.from_yaml(path)
    assert str(refused.value).startswith(str(path))
    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_file_that_is_no_plan_is_not_parsed(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("x" * 5_000_000)
    with pytest.raises(PlanError, match=r"must be at most 4,000,000 characters\. It has 5,000,000"):
        Plan.from_yaml(path)


def test_an_override_does_not_hide_an_error_in_the_file(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("ratio: 28\n")
    with pytest.raises(PlanError, match=r"0\.28"):
        Plan.from_yaml(path, {"ratio": 0.5})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PlanError, match=r"none\.yaml: cannot be read"):
        Plan.from_yaml(tmp_path / "none.yaml")


def test_an_empty_file_is_the_default_plan(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("# nothing\n")
    assert Plan.from_yaml(path) == Plan()


def test_each_compared_method_has_one_plan():
    plans = plans_for(["svd", "messi", "svd"], Plan(ratio=0.5, clusters=4))
    assert list(plans) == ["svd", "messi"]
    assert (plans["svd"].clusters, plans["messi"].clusters, plans["svd"].ratio) == (None, 4, 0.5)


def test_without_methods_there_is_one_plan_or_none():
    assert plans_for([], None) == {}
    assert plans_for([], Plan(ratio=0.5)) == {"auto": Plan(ratio=0.5)}


def test_method_and_methods_together_are_refused():
    with pytest.raises(PlanError, match="method and methods must not be given together"):
        plans_for(["svd"], Plan(method="lp"))


@pytest.mark.parametrize(("text", "count"), [("40MB", 40_000_000), ("1.5 gib", 1_610_612_736), (123456, 123456)])
def test_bytes_have_units(text, count):
    plan = Plan(max_bytes=text)
    assert (plan.max_bytes, plan.ratio) == (count, None)


def test_a_size_on_the_command_line_replaces_any_in_the_file(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("target_size: 0.5\np: 1.0\n")
    plan = Plan.from_yaml(path, {"ratio": 0.6})
    assert (plan.ratio, plan.target_size, plan.p) == (0.6, None, 1.0)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("abc.0", min_size=1),
        st.fixed_dictionaries(
            {
                "method": st.sampled_from(sorted(set(NAMES) - {"auto", "sketch"})),
                "ratio": st.floats(0, 1, exclude_min=True, exclude_max=True),
            }
        ),
        min_size=1,
    ),
    st.floats(0, 2),
)
def test_a_plan_survives_a_round_trip_through_yaml(tmp_path_factory, allocation, exponent):
    plan = Plan(allocation=allocation, exponent=exponent, layers=["all"], calibration="glue:mrpc")
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(plan.to_yaml())
    assert Plan.from_yaml(path) == plan


def test_the_published_schema_is_up_to_date():
    """To regenerate the file, write json.dumps(Plan.model_json_schema(), indent=2) and a newline."""
    assert json.loads(SCHEMA.read_text()) == Plan.model_json_schema()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_the_schema_accepts_the_configs_of_this_repository(file):
    jsonschema.validate(yaml.safe_load(file.read_text()), json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize(
    "values",
    [
        {"max_bytes": "40MB", "layers": "all"},
        {"layers": ["all"], "target_size": 0.5, "method": "coded"},
        {"allocation": {"a": {"method": "svd", "ratio": 0.5}}, "exponent": 0},
        {"method": "svdd"},
        {"p": 3},
        {"p": True},
        {"ratio": 28},
        {"ratio": 0},
        {"layers": []},
        {"layers": 5},
        {"target_size": 1},
        {"max_bytes": 0},
        {"clusters": 0},
        {"exponent": 2.5},
        {"seed": -1},
        {"unknown": 1},
        {"allocation": {"a": {"method": "auto", "ratio": 0.5}}},
    ],
    ids=str,
)
def test_the_schema_accepts_what_a_plan_accepts(values):
    try:
        Plan(**values)
        accepted = True
    except PlanError:
        accepted = False
    assert jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).is_valid(values) == accepted


def test_the_methods_of_an_allocation_are_not_overridden():
    allocation = {"a": {"method": "svd", "ratio": 0.5}, "b": {"method": "messi", "ratio": 0.5}}
    assert Plan(allocation=allocation).method == "auto"
    with pytest.raises(PlanError, match="the allocation gives layers to messi, so method cannot be 'svd'"):
        Plan(allocation=allocation, method="svd")
    with pytest.raises(PlanError, match="so method cannot be 'lp'"):
        plans_for(["lp", "svd"], Plan(allocation=allocation))
    with pytest.raises(PlanError, match="allocation must name at least one layer"):
        Plan(allocation={})


def test_keywords_override_a_plan():
    plan = Plan(ratio=0.5, p=1.5)
    assert Plan.of(None, {}) == Plan() and Plan.of(plan, {}) is not None
    assert Plan.of(plan, {"p": 2}).given() == {"ratio": 0.5, "p": 2.0}
    assert Plan.of(plan, {"target_size": 0.7}).given() == {"p": 1.5, "ratio": None, "target_size": 0.7}
    with pytest.raises(PlanError, match="plan must be a Plan"):
        Plan.of({"ratio": 0.5}, {})


def test_numbers_written_with_an_exponent_are_numbers(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("ratio: 3e-1\n")  # YAML 1.1 reads this as text
    assert Plan.from_yaml(path).ratio == 0.3


def test_sizes_are_plain_numbers_in_dumps():
    plan = Plan(max_bytes="40MB")
    assert type(plan.model_dump()["max_bytes"]) is int
    assert "max_bytes: 40000000\n" in plan.to_yaml()


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_the_options_of_a_method_follow_from_the_table(method):
    layer = {"method": method.name, "ratio": 0.5}
    if method.one_subspace:
        with pytest.raises(PlanError, match="has one subspace"):
            Plan(method=method.name, clusters=2)
    else:
        assert Plan(method=method.name, clusters=2).clusters == 2
    if method.needs_training:
        with pytest.raises(PlanError, match=r"allocation\.a\.method must be one of"):
            Plan(allocation={"a": layer})
    else:
        assert Plan(allocation={"a": layer}).allocation["a"].method == method.name
