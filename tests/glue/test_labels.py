"""Label order: the true one or an error, never a silent score of 7 %."""

import itertools
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from lpcompress.errors import LpCompressError, PlanError
from lpcompress.glue.labels import LabelMap, decide, read_label_map
from lpcompress.glue.tasks import AX, TASKS

NUMBERED = ("LABEL_0", "LABEL_1", "LABEL_2")
MNLI = TASKS["mnli"].classes


def config(*names):
    return SimpleNamespace(id2label=dict(enumerate(names)), num_labels=len(names))


def never():
    raise AssertionError("the model was probed")


def model(order, skill=0.85, n=500, seed=0, classes=None):
    """A probe of a model whose output i means class order[i]; returns logits and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(len(order), n, p=classes)
    seen = np.where(generator.random(n) < skill, labels, generator.integers(0, len(order), n))
    logits = generator.normal(size=(n, len(order)))
    logits[np.arange(n), np.argsort(order)[seen]] += 6
    return lambda: (logits.astype(np.float32), labels)


def accuracy(found, probe):
    logits, labels = probe()
    return np.mean(found.predictions(logits) == labels)


def test_a_regression_has_no_order():
    found = decide(TASKS["stsb"], config("LABEL_0"), "m", never)
    assert found == LabelMap(None, "regression")
    values = found.predictions(np.float32([[1.5], [-2.0]]))
    assert (values.tolist(), values.dtype) == ([1.5, -2.0], np.float64)


@pytest.mark.parametrize(
    ("task", "names", "order"),
    [
        ("mnli", ("entailment", "neutral", "contradiction"), (0, 1, 2)),
        ("mnli", ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), (2, 1, 0)),
        ("mnli", ("contradiction", "entailment", "neutral"), (2, 0, 1)),
        ("rte", ("entailment", "not_entailment"), (0, 1)),
        ("wnli", ("entailment", "not-entailment"), (1, 0)),
        ("qnli", ("Not Entailment", "Entailment"), (1, 0)),
        ("sst2", ("POSITIVE", "NEGATIVE"), (1, 0)),
        ("mrpc", ("not_equivalent", "equivalent"), (0, 1)),
        ("qqp", ("duplicate", "not_duplicate"), (1, 0)),
        ("cola", ("acceptable", "unacceptable"), (1, 0)),
    ],
)
def test_names_decide_without_a_probe(task, names, order):
    assert decide(TASKS[task], config(*names), "m", never) == LabelMap(order, "names")


def test_predictions_are_the_numbers_of_the_data_set():
    found = LabelMap((2, 0, 1), "names")
    assert found.predictions(np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9.0]])).tolist() == [2, 0, 1]


def test_outputs_that_are_not_finite_are_refused():
    for bad in (np.nan, np.inf):
        with pytest.raises(LpCompressError, match="must be finite numbers"):
            LabelMap((0, 1), "names").predictions(np.array([[0.0, bad]]))


@pytest.mark.parametrize("name", ["textattack/bert-base-uncased-MNLI", "textattack/distilbert-base-cased-snli"])
@pytest.mark.parametrize("task", [TASKS["mnli"], AX])
def test_checkpoints_known_to_be_permuted(task, name):
    found = decide(task, config(*NUMBERED), name, never)
    assert found == LabelMap((2, 0, 1), "known checkpoint")  # contradiction, entailment, neutral


def test_names_win_over_the_table():
    found = decide(TASKS["mnli"], config(*MNLI), "textattack/bert-base-uncased-MNLI", never)
    assert found == LabelMap((0, 1, 2), "names")


def test_a_known_checkpoint_with_contradicting_answers_is_probed():
    name, probe = "textattack/bert-base-uncased-MNLI", model((1, 2, 0))
    assert decide(TASKS["mnli"], config(*NUMBERED), name, never, answers=model((2, 0, 1))()).order == (2, 0, 1)
    with pytest.warns(UserWarning, match="read as neutral, contradiction, entailment"):
        found = decide(TASKS["mnli"], config(*NUMBERED), name, probe, answers=probe())
    assert found == LabelMap((1, 2, 0), "probe")


def test_roberta_of_the_same_maker_is_in_another_order_and_is_probed():
    with pytest.warns(UserWarning, match="read as contradiction, neutral, entailment"):
        found = decide(TASKS["mnli"], config(*NUMBERED), "textattack/roberta-base-MNLI", model((2, 1, 0)))
    assert found == LabelMap((2, 1, 0), "probe")


@pytest.mark.parametrize("limit", [60, 500])
def test_names_that_the_answers_contradict_are_an_error(limit):
    logits, labels = model((2, 0, 1))()
    with pytest.raises(
        LpCompressError, match=r"named entailment, neutral, contradiction, .* as contradiction, ent.*map"
    ):
        decide(TASKS["mnli"], config(*MNLI), "m", never, answers=(logits[:limit], labels[:limit]))


def test_names_are_kept_if_the_answers_confirm_them_or_show_nothing():
    for answers in (model((2, 0, 1))(), model((0, 1, 2), 0.0)(), model((0, 1, 2), 1.0, n=4)()):
        found = decide(TASKS["mnli"], config("contradiction", "entailment", "neutral"), "m", never, answers=answers)
        assert found == LabelMap((2, 0, 1), "names")


def test_names_are_kept_on_wnli_even_below_chance():
    answers = model((1, 0), 0.6, n=71)()
    assert decide(TASKS["wnli"], config(*TASKS["wnli"].classes), "m", never, answers=answers).order == (0, 1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("names", [NUMBERED, ("0", "1", "2"), ("c", "e", "n"), ("entailment", "neutral", "LABEL_2")])
def test_a_permuted_model_without_names_gets_its_true_score(order, names):
    probe = model(order)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = decide(TASKS["mnli"], config(*names), "someone/nli", probe)
    assert found.order == order
    assert accuracy(found, probe) > 0.85
    plain = order == (0, 1, 2)
    assert found.decided_by == ("identity, probe agrees" if plain else "probe")
    assert len(caught) == (0 if plain else 1)


def test_a_permuted_order_is_reported_in_words():
    with pytest.warns(UserWarning) as caught:
        decide(TASKS["mnli"], config(*NUMBERED), "someone/nli", model((2, 0, 1)))
    [message] = [str(each.message) for each in caught]
    assert message.startswith(
        "someone/nli: the names of its outputs are not classes of mnli. They are read as contradiction, e"
    )
    assert "the data set's order" in message
    assert message.endswith("Use --label-map FILE to change this.")


def test_swapped_classes_of_two():
    probe = model((1, 0))
    with pytest.warns(UserWarning, match="read as equivalent, not_equivalent"):
        found = decide(TASKS["mrpc"], config(*NUMBERED[:2]), "m", probe)
    assert found == LabelMap((1, 0), "probe")
    assert accuracy(found, probe) > 0.85


@pytest.mark.parametrize("skill", [0.0, 0.1])
def test_a_model_of_three_classes_near_chance_is_an_error(skill):
    with pytest.raises(
        LpCompressError, match=r"do not show which is which.*--label-map FILE with \{mnli: \[entailment, n"
    ):
        decide(TASKS["mnli"], config(*NUMBERED), "m", model((1, 2, 0), skill, n=60, seed=1))


def test_a_handful_of_rows_does_not_decide():
    with pytest.raises(LpCompressError, match="do not show which is which"):
        decide(TASKS["mnli"], config(*NUMBERED), "m", model((1, 2, 0), 1.0, n=4))


def test_for_two_classes_at_chance_the_data_set_s_order_is_assumed_with_a_warning():
    logits = np.tile([1.0, 0.0], (71, 1))  # the majority class, as on WNLI
    labels = np.array([0] * 40 + [1] * 31)
    for task in ("wnli", "cola"):
        with pytest.warns(
            UserWarning, match=r"no better than chance\. The data set's order is assumed\. Use --label-map"
        ):
            found = decide(TASKS[task], config(*NUMBERED[:2]), "m", lambda: (logits, labels))
        assert found == LabelMap((0, 1), "identity")


def test_below_chance_is_evidence_except_on_wnli():
    probe = model((1, 0), 0.6, n=71)
    with pytest.warns(UserWarning, match="The data set's order is assumed"):
        assert decide(TASKS["wnli"], config(*NUMBERED[:2]), "m", probe).order == (0, 1)
    with pytest.warns(UserWarning, match="read as not_entailment, entailment"):
        assert decide(TASKS["rte"], config(*NUMBERED[:2]), "m", probe).order == (1, 0)


def test_significant_but_slight_evidence_against_the_order_is_an_error():
    with pytest.raises(LpCompressError, match="do not show which is which"):
        decide(TASKS["rte"], config(*NUMBERED[:2]), "m", model((1, 0), 0.16, n=5000))


def test_a_rare_class_does_not_reverse_the_order():
    probe = model((0, 1), 0.5, classes=(0.1, 0.9))
    assert decide(TASKS["cola"], config(*NUMBERED[:2]), "m", probe).decided_by == "identity, probe agrees"


@pytest.mark.parametrize(
    "text",
    [
        "mnli: [contradiction, entailment, neutral]",
        "MNLI: [2, 0, 1]",
        json.dumps({"mnli": ["CONTRADICTION", "entail", "neutral"], "cola": [1, 0]}),
        "mnli: {LABEL_0: contradiction, LABEL_1: entailment, LABEL_2: neutral}",
        "mnli: {label_2: neutral, label_0: contradiction, label_1: entailment}",
        "mnli: {0: contradiction, 1: entailment, 2: neutral}",
        "{LABEL_0: contradiction, LABEL_1: entailment, LABEL_2: neutral}",
        json.dumps({"0": 2, "1": 0, "2": 1}),
    ],
)
def test_a_file_overrides_all(tmp_path, text):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    for names in (NUMBERED, ("LABEL_0", "LABEL_1", "LABEL_2")):
        assert decide(TASKS["mnli"], config(*names), "m", never, path) == LabelMap((2, 0, 1), "file")
    assert decide(AX, config(*NUMBERED), "m", never, path) == LabelMap((2, 0, 1), "file")


def test_a_file_that_does_not_list_the_task_is_ignored(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("mnli: [contradiction, entailment, neutral]")
    assert decide(TASKS["rte"], config("entailment", "not_entailment"), "m", never, path).decided_by == "names"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mnli: [contradiction, entailment]",
            r"map\.yaml: mnli must assign each of entailment, neutral, contradiction to",
        ),
        ("mnli: [contradiction, entailment, entailment]", "LABEL_0, LABEL_1, LABEL_2"),
        ("mnli: [yes, no, maybe]", "mnli must assign each of"),
        ("mnli: {LABEL_0: contradiction, LABEL_1: entailment, LABEL_7: neutral}", "mnli must assign each of"),
        ("mnli: contradiction", "Got contradiction"),
        ("{mnli: [2, 0, 1], mrcp: [0, 1]}", r"keys must be tasks \(cola, .*\)\. Got 'mrcp'"),
        ("[2, 0, 1]", "must map tasks to classes, in the order of the model's outputs"),
        ("", "must map tasks"),
        ("mnli: [", "not valid YAML"),
    ],
)
def test_invalid_files_are_refused(tmp_path, text, message):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(PlanError, match=message):
        decide(TASKS["mnli"], config(*NUMBERED), "m", never, path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PlanError, match=r"cannot be read \(No such file or directory\)\. Name a YAML file"):
        read_label_map(tmp_path / "absent.yaml")
