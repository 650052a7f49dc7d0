"""The table of tasks against the known properties of GLUE."""

import pytest

from lpcompress.errors import PlanError
from lpcompress.glue.metrics import QUICK, REFERENCES
from lpcompress.glue.tasks import AX, TASKS, chosen


def test_the_nine_tasks_in_their_order_and_spelling():
    spellings = [task.spelling for task in TASKS.values()]
    assert spellings == ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"]
    assert list(TASKS) == ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]


def test_wnli_has_the_reverse_order_of_rte():
    assert TASKS["wnli"].classes == TASKS["rte"].classes[::-1] == ("not_entailment", "entailment")


def test_metrics_of_each_task():
    assert {key: task.metric_keys for key, task in TASKS.items()} == {
        "cola": ("matthews",),
        "sst2": ("accuracy",),
        "mrpc": ("accuracy", "f1"),
        "stsb": ("pearson", "spearman"),
        "qqp": ("accuracy", "f1"),
        "mnli": ("accuracy", "accuracy_mm"),
        "qnli": ("accuracy",),
        "rte": ("accuracy",),
        "wnli": ("accuracy",),
    }
    assert all(set(task.metrics) <= QUICK.keys() & REFERENCES.keys() for task in TASKS.values())


def test_numbers_of_outputs():
    assert [task.n_outputs for task in TASKS.values()] == [2, 2, 2, 1, 2, 3, 2, 2, 2]
    assert AX.n_outputs == 3


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ("all", list(TASKS)),
        ("all,ax", [*TASKS, "ax"]),
        ("mrpc,cola", ["cola", "mrpc"]),
        ("rte mrpc, rte", ["mrpc", "rte"]),
        (["SST-2", "STS-B"], ["sst2", "stsb"]),
        (["cola,qqp", "ax"], ["cola", "qqp", "ax"]),
    ],
)
def test_chosen_tasks(names, keys):
    assert [task.key for task in chosen(names)] == keys


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("mprc", r"cola, .*, ax\. Got 'mprc'; did you mean 'mrpc'\?"),
        ("superglue", r"Got 'superglue'\.$"),
        ("mnli-mm", "Got 'mnli-mm'; did you mean 'mnli'"),
        ("", "must name at least one of cola"),
        ([], "Got none"),
    ],
)
def test_an_unknown_task_is_refused(names, message):
    with pytest.raises(PlanError, match=message):
        chosen(names)


@pytest.mark.parametrize(
    ("task", "name", "number"),
    [
        ("rte", "entailment", 0),
        ("wnli", "entailment", 1),
        ("rte", "Not Entailment", 1),
        ("qnli", "NOT-ENTAILMENT", 1),
        ("mnli", "CONTRADICTION", 2),
        ("mnli", "entail", 0),
        ("sst2", "pos", 1),
        ("mrpc", "paraphrase", 1),
        ("mnli", 2, 2),
        ("mnli", "2", 2),
        ("mnli", 3, None),
        ("rte", -1, None),
        ("rte", "neutral", None),
        ("rte", "LABEL_1", None),
        ("rte", None, None),
        ("rte", True, None),
        ("stsb", "0", None),
    ],
)
def test_class_id(task, name, number):
    assert TASKS[task].class_id(name) == number
