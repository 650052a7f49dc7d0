"""One task end to end, on tiny checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lpcompress.evaluation import examination
from lpcompress.evaluation.attempts import evaluate_task
from lpcompress.evaluation.examination import Examination
from lpcompress.evaluation.results import OUTCOME
from lpcompress.evaluation.store import Store
from lpcompress.glue.tasks import TASKS

MNLI, MRPC = TASKS["mnli"], TASKS["mrpc"]


def test_the_dense_model_is_scored_once_and_its_rows_are_tokenised_once(tiny_classifier, setup, reversing, monkeypatch):
    scored, tokenised = [], []
    for name, calls in {"logits": scored, "encode": tokenised}.items():
        real = getattr(examination, name)
        monkeypatch.setattr(examination, name, lambda *a, real=real, calls=calls: calls.append(a[0]) or real(*a))
    variants = [reversing(name, {"name": name}) for name in ("a", "b")]
    found = evaluate_task(MNLI, str(tiny_classifier("mnli")), setup(), variants)
    assert [len(tokenised), len(scored)] == [2, 6]  # two splits; three models on them
    assert found["a"].metrics == found["b"].metrics
    assert found["a"].agreement < 100
    assert found["a"].compression.parameters_after == 1


def test_finished_parts_are_taken_from_the_store(tiny_classifier, setup, reversing, tmp_path, monkeypatch):
    model, variants = str(tiny_classifier("mrpc")), [reversing(key={"plan": 1})]
    parts = tmp_path / "parts"
    first = evaluate_task(MRPC, model, setup(store=Store(parts, resume=True, kind=OUTCOME)), variants)
    assert len(list(parts.iterdir())) == 2
    monkeypatch.setattr(examination, "logits", lambda *_: pytest.fail("scored again"))
    assert evaluate_task(MRPC, model, setup(store=Store(parts, resume=True, kind=OUTCOME)), variants) == first


@pytest.mark.parametrize("change", ["limit", "batch_size", "context", "plan", "model", "label_map"])
def test_other_settings_are_stored_separately(change, tiny_classifier, setup, reversing, tmp_path):
    model, parts, variants = str(tiny_classifier("mrpc")), tmp_path / "parts", [reversing(key={"plan": 1})]
    evaluate_task(MRPC, model, setup(store=Store(parts, resume=True, kind=OUTCOME)), variants)
    before = set(parts.iterdir())
    labels = tmp_path / "labels.yaml"
    labels.write_text("mrpc: [1, 0]")
    settings = {"limit": 5, "batch_size": 3, "context": {"torch": "other"}, "label_map": labels}
    if change == "model":
        tiny_classifier("mrpc", seed=1)
    if change == "plan":
        variants = [reversing(key={"plan": 2})]
    other = {change: settings[change]} if change in settings else {}
    evaluate_task(MRPC, model, setup(store=Store(parts, resume=True, kind=OUTCOME), **other), variants)
    assert before < set(parts.iterdir())
    assert len(set(parts.iterdir())) == (3 if change == "plan" else 4)


def test_predictions_are_in_the_order_of_the_rows(tiny_classifier, setup, glue_dir):
    exam = Examination(MRPC, str(tiny_classifier("mrpc")), setup(batch_size=5))
    kept = exam.plain()
    classifier, pairs = exam.classifier, list(zip(*exam.splits[0].texts, strict=True))
    with torch.inference_mode():
        alone = [classifier.model(**classifier.tokenizer(*pair, return_tensors="pt")).logits.argmax() for pair in pairs]
    assert kept.predictions == {"validation": [int(each) for each in alone]}
    assert kept.labels.order == (0, 1)
    assert np.unique(kept.predictions["validation"]).size == 2
    assert Path(kept.model).is_dir()
