"""The meaning of outputs is decided on uncompressed models only."""

import pytest

from lpcompress.checkpoints import saving
from lpcompress.evaluation import outputs
from lpcompress.evaluation.attempts import AS_IS, evaluate_task
from lpcompress.glue.labels import LabelMap
from lpcompress.glue.tasks import TASKS, chosen

MNLI, MRPC = TASKS["mnli"], TASKS["mrpc"]


def test_outputs_without_names_mean_what_the_baselines_do(tiny_classifier, setup, tmp_path, monkeypatch):
    names = ["LABEL_0", "LABEL_1", "LABEL_2"]
    base = tiny_classifier("mnli", names=names)
    other = tiny_classifier("mnli", names=names, directory=tmp_path / "other", seed=1)
    meaning = LabelMap((2, 0, 1), "probe")
    monkeypatch.setattr(outputs, "decide", lambda *_: meaning)
    result = evaluate_task(MNLI, str(other), setup(), baseline=str(base))[AS_IS]
    assert result.labels == meaning
    assert result.status == "ok"


def test_a_compressed_model_is_never_probed(tiny_classifier, setup, tmp_path):
    base = tiny_classifier("mnli")
    other = tiny_classifier("mnli", names=["LABEL_0", "LABEL_1", "LABEL_2"], directory=tmp_path / "other")
    result = evaluate_task(MNLI, str(other), setup(), baseline=str(base))[AS_IS]
    assert result.status == "failed"
    assert "a compressed model's own scores must not decide" in result.reason
    assert "--label-map FILE" in result.reason


@pytest.mark.parametrize("limit", [None, 3])
def test_the_probe_sees_enough_rows_whatever_the_limit(limit, tiny_classifier, setup, monkeypatch):
    seen = []

    def decide(task, config, name, probe, label_map, answers):
        seen.append(probe())
        return LabelMap((0, 1), "probe")

    monkeypatch.setattr(outputs, "decide", decide)
    evaluate_task(MRPC, str(tiny_classifier("mrpc")), setup(limit=limit))
    [(values, labels)] = seen
    assert (values.shape, len(labels)) == ((12, 2), 12)


def test_the_probe_of_the_diagnostic_set_is_on_mnli(tiny_classifier, setup, monkeypatch, rows_of):
    seen = []

    def decide(task, config, name, probe, label_map, answers):
        assert answers is None  # the rows have no labels
        seen.append(probe()[1])
        return LabelMap((0, 1, 2), "probe")

    monkeypatch.setattr(outputs, "decide", decide)
    [task] = chosen("ax")
    result = evaluate_task(task, str(tiny_classifier("mnli")), setup())[AS_IS]
    assert seen[0].tolist() == [row["label"] for row in rows_of("mnli", "validation_matched")]
    assert (result.status, len(result.predictions)) == ("unlabelled", 4)


def test_names_are_checked_against_the_answers_of_uncompressed_models_only(
    tiny_classifier, compressed, tokenizer, setup, tmp_path, monkeypatch
):
    seen = []

    def decide(task, config, name, probe, label_map, answers):
        seen.append(answers)
        return LabelMap((0, 1), "names")

    monkeypatch.setattr(outputs, "decide", decide)
    saving.save(compressed(num_labels=2, pad_token_id=0), tokenizer(), tmp_path / "small")
    for model in (tiny_classifier("mrpc"), tmp_path / "small"):
        evaluate_task(MRPC, str(model), setup(limit=5))
    [(values, labels), of_compressed] = seen
    assert (values.shape, labels.shape, of_compressed) == ((5, 2), (5,), None)
