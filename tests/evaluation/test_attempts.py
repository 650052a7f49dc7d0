"""A failure on a task is recorded and does not stop the rest."""

import pytest

from lpcompress.errors import LpCompressError, PlanError
from lpcompress.evaluation.attempts import AS_IS, evaluate_task
from lpcompress.evaluation.setup import Variant
from lpcompress.glue.tasks import TASKS

MRPC = TASKS["mrpc"]


def broken(model, tokenizer, progress):
    raise LpCompressError("cannot be done")


def test_a_failing_variant_does_not_stop_the_next(tiny_classifier, setup, reversing):
    variants = [Variant("broken", broken, {}), reversing()]
    found = evaluate_task(MRPC, str(tiny_classifier("mrpc")), setup(), variants)
    assert (found["broken"].status, found["broken"].reason) == ("failed", "cannot be done")
    assert found["reversed_rows"].status == "ok"


def test_a_bug_marks_the_task_and_its_traceback_is_logged(tiny_classifier, setup, caplog):
    def bug(*_):
        raise ZeroDivisionError("oops")

    [result] = evaluate_task(MRPC, str(tiny_classifier("mrpc")), setup(), [Variant("v", bug, {})]).values()
    assert (result.status, result.reason) == ("failed", "ZeroDivisionError: oops")
    assert "Traceback" in caplog.text


def test_a_missing_model_is_not_available(setup, tmp_path):
    [result] = evaluate_task(MRPC, str(tmp_path / "absent"), setup()).values()
    assert result.status == "not available"
    assert "There is no such directory" in result.reason


def test_a_model_of_another_task_fails(tiny_classifier, setup):
    [result] = evaluate_task(MRPC, str(tiny_classifier("mnli")), setup()).values()
    assert result.status == "failed"
    assert "fine-tuned on another task" in result.reason


def test_a_wrong_label_map_is_a_wrong_option(tiny_classifier, setup, tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("mrpc: [equivalent, equivalent]")
    with pytest.raises(PlanError, match=r"labels\.yaml"):
        evaluate_task(MRPC, str(tiny_classifier("mrpc")), setup(label_map=path))


def test_a_model_is_compared_with_the_one_it_was_made_from(tiny_classifier, setup, tmp_path):
    base = tiny_classifier("mrpc")
    other = tiny_classifier("mrpc", directory=tmp_path / "other", seed=1)
    result = evaluate_task(MRPC, str(other), setup(), baseline=str(base))[AS_IS]
    alone = evaluate_task(MRPC, str(other), setup())[AS_IS]
    dense = evaluate_task(MRPC, str(base), setup())[AS_IS]
    assert (result.model, result.score, result.baseline_score) == (str(other), alone.score, dense.score)
