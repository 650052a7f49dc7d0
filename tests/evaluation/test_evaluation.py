"""One task end to end, on tiny checkpoints."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from lpcompress.checkpoints import saving
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.evaluation import examination
from lpcompress.evaluation.examination import ITSELF, Examination, Setup, Variant, evaluate_task, labels_of, twin_of
from lpcompress.evaluation.store import Store
from lpcompress.glue.tasks import TASKS, chosen
from lpcompress.processes import Workers

MNLI, MRPC = TASKS["mnli"], TASKS["mrpc"]


@pytest.fixture
def setup(glue_dir):
    def make(**settings):
        return Setup(Workers("cpu"), data=str(glue_dir), **settings)

    return make


def reversed_rows(model, tokenizer, progress):
    """A variant that replaces the embedding by one whose rows stand in reverse."""
    table = model.get_input_embeddings()
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(table.weight.flip(0), padding_idx=table.padding_idx))
    return {"done": "reversed_rows"}


def broken(model, tokenizer, progress):
    raise LpCompressError("cannot be done")


def test_the_dense_model_is_scored_once_and_its_rows_are_tokenised_once(tiny_classifier, setup, monkeypatch):
    scored, tokenised = [], []
    for name, calls in {"logits": scored, "encode": tokenised}.items():
        real = getattr(examination, name)
        monkeypatch.setattr(examination, name, lambda *a, real=real, calls=calls: calls.append(a[0]) or real(*a))
    variants = [Variant(name, reversed_rows, {"name": name}) for name in ("a", "b")]
    found = evaluate_task(MNLI, str(tiny_classifier("mnli")), setup(), variants)
    assert [len(tokenised), len(scored)] == [2, 6]  # two splits; three models on them
    assert found["a"].metrics == found["b"].metrics
    assert found["a"].agreement < 100
    assert found["a"].compression == {"done": "reversed_rows"}


def test_a_variant_shares_the_models_tensors_and_leaves_the_model_alone(tiny_model):
    model = tiny_model("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    twin = twin_of(model)
    shared = {tensor.data_ptr() for tensor in model.parameters()}
    assert {tensor.data_ptr() for tensor in twin.parameters()} == shared
    reversed_rows(twin, None, None)
    twin.config.id2label = {0: "changed"}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.config.id2label != {0: "changed"}


def test_a_failing_variant_does_not_stop_the_next(tiny_classifier, setup):
    variants = [Variant("broken", broken, {}), Variant("reversed_rows", reversed_rows, {})]
    found = evaluate_task(MRPC, str(tiny_classifier("mrpc")), setup(), variants)
    assert (found["broken"].status, found["broken"].reason) == ("failed", "cannot be done")
    assert found["reversed_rows"].status == "ok"


def test_a_bug_marks_the_task_and_its_traceback_is_logged(tiny_classifier, setup, caplog):
    def bug(*_):
        raise ZeroDivisionError("oops")

    [result] = evaluate_task(MRPC, str(tiny_classifier("mrpc")), setup(), [Variant("v", bug, {})]).values()
    assert (result.status, result.reason) == ("failed", "ZeroDivisionError: oops")
    assert "Traceback" in caplog.text


def test_a_model_that_is_not_there_is_not_available(setup, tmp_path):
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
    result = evaluate_task(MRPC, str(other), setup(), baseline=str(base))[ITSELF]
    alone = evaluate_task(MRPC, str(other), setup())[ITSELF]
    dense = evaluate_task(MRPC, str(base), setup())[ITSELF]
    assert (result.model, result.score, result.baseline_score) == (str(other), alone.score, dense.score)


def test_outputs_without_names_mean_what_the_baselines_do(tiny_classifier, setup, tmp_path, monkeypatch):
    names = ["LABEL_0", "LABEL_1", "LABEL_2"]
    base = tiny_classifier("mnli", names=names)
    other = tiny_classifier("mnli", names=names, directory=tmp_path / "other", seed=1)
    meaning = examination.LabelMap((2, 0, 1), "probe")
    monkeypatch.setattr(examination, "decide", lambda *_: meaning)
    result = evaluate_task(MNLI, str(other), setup(), baseline=str(base))[ITSELF]
    assert result.labels == {"order": [2, 0, 1], "decided_by": "probe"}
    assert result.status == "ok"


def test_a_compressed_model_is_never_probed(tiny_classifier, setup, tmp_path):
    base = tiny_classifier("mnli")
    other = tiny_classifier("mnli", names=["LABEL_0", "LABEL_1", "LABEL_2"], directory=tmp_path / "other")
    result = evaluate_task(MNLI, str(other), setup(), baseline=str(base))[ITSELF]
    assert result.status == "failed"
    assert "a compressed model's own scores must not decide" in result.reason
    assert "--label-map FILE" in result.reason


@pytest.mark.parametrize("limit", [None, 3])
def test_the_probe_sees_enough_rows_whatever_the_limit(limit, tiny_classifier, setup, monkeypatch):
    seen = []

    def decide(task, config, name, probe, label_map, answers):
        seen.append(probe())
        return examination.LabelMap((0, 1), "probe")

    monkeypatch.setattr(examination, "decide", decide)
    evaluate_task(MRPC, str(tiny_classifier("mrpc")), setup(limit=limit))
    [(values, labels)] = seen
    assert (values.shape, len(labels)) == ((12, 2), 12)


def test_the_probe_of_the_diagnostic_set_is_on_mnli(tiny_classifier, setup, monkeypatch, rows_of):
    seen = []

    def decide(task, config, name, probe, label_map, answers):
        assert answers is None  # the rows have no labels
        seen.append(probe()[1])
        return examination.LabelMap((0, 1, 2), "probe")

    monkeypatch.setattr(examination, "decide", decide)
    [task] = chosen("ax")
    result = evaluate_task(task, str(tiny_classifier("mnli")), setup())[ITSELF]
    assert seen[0].tolist() == [row["label"] for row in rows_of("mnli", "validation_matched")]
    assert (result.status, len(result.predictions)) == ("unlabelled", 4)


def test_names_are_held_against_the_answers_of_uncompressed_models_only(
    tiny_classifier, compressed, tokenizer, setup, tmp_path, monkeypatch
):
    seen = []

    def decide(task, config, name, probe, label_map, answers):
        seen.append(answers)
        return examination.LabelMap((0, 1), "names")

    monkeypatch.setattr(examination, "decide", decide)
    saving.save(compressed(num_labels=2, pad_token_id=0), tokenizer(), tmp_path / "small")
    for model in (tiny_classifier("mrpc"), tmp_path / "small"):
        evaluate_task(MRPC, str(model), setup(limit=5))
    [(values, labels), of_compressed] = seen
    assert (values.shape, labels.shape, of_compressed) == ((5, 2), (5,), None)


def test_finished_parts_are_taken_from_the_store(tiny_classifier, setup, tmp_path, monkeypatch):
    model, variants = str(tiny_classifier("mrpc")), [Variant("reversed_rows", reversed_rows, {"plan": 1})]
    parts = tmp_path / "parts"
    first = evaluate_task(MRPC, model, setup(store=Store(parts, resume=True)), variants)
    assert len(list(parts.iterdir())) == 2
    monkeypatch.setattr(examination, "logits", lambda *_: pytest.fail("scored again"))
    assert evaluate_task(MRPC, model, setup(store=Store(parts, resume=True)), variants) == first


@pytest.mark.parametrize("change", ["limit", "batch_size", "context", "plan", "model", "label_map"])
def test_other_settings_are_other_parts(change, tiny_classifier, setup, tmp_path):
    model, parts, variants = (
        str(tiny_classifier("mrpc")),
        tmp_path / "parts",
        [Variant("v", reversed_rows, {"plan": 1})],
    )
    evaluate_task(MRPC, model, setup(store=Store(parts, resume=True)), variants)
    before = set(parts.iterdir())
    labels = tmp_path / "labels.yaml"
    labels.write_text("mrpc: [1, 0]")
    settings = {"limit": 5, "batch_size": 3, "context": {"torch": "other"}, "label_map": labels}
    if change == "model":
        tiny_classifier("mrpc", seed=1)
    if change == "plan":
        variants = [dataclasses.replace(variants[0], key={"plan": 2})]
    other = {change: settings[change]} if change in settings else {}
    evaluate_task(MRPC, model, setup(store=Store(parts, resume=True), **other), variants)
    assert before < set(parts.iterdir())
    assert len(set(parts.iterdir())) == (3 if change == "plan" else 4)


def test_predictions_are_in_the_order_of_the_rows(tiny_classifier, setup, glue_dir):
    exam = Examination(MRPC, str(tiny_classifier("mrpc")), setup(batch_size=5))
    kept = exam.plain()
    classifier, pairs = exam.classifier, list(zip(*exam.splits[0].texts, strict=True))
    with torch.inference_mode():
        alone = [classifier.model(**classifier.tokenizer(*pair, return_tensors="pt")).logits.argmax() for pair in pairs]
    assert kept.predictions == {"validation": [int(each) for each in alone]}
    assert labels_of(kept).order == (0, 1)
    assert np.unique(kept.predictions["validation"]).size == 2
    assert Path(kept.model).is_dir()
