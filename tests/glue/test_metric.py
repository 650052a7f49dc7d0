"""Our metrics through the public interface of `evaluate`."""

import os

import numpy as np
import pytest

from lpcompress.glue.metric import GlueMetric
from lpcompress.glue.metrics import compute
from lpcompress.glue.tasks import TASKS


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_it_gives_our_metrics_to_the_last_digit(task):
    generator = np.random.default_rng(0)
    if task.classes:
        predictions, labels = generator.integers(len(task.classes), size=(2, 60))
    else:
        predictions, labels = generator.random((2, 60)) * 5
    assert GlueMetric(task).compute(predictions=predictions, references=labels) == compute(task, predictions, labels)


def test_no_file_is_written_and_no_random_number_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "metrics"))
    monkeypatch.chdir(tmp_path)
    before = np.random.get_state()[1].copy()
    metric = GlueMetric(TASKS["rte"])
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add(prediction=1, reference=1)
    assert metric.compute() == {"accuracy": pytest.approx(200 / 3)}
    assert os.listdir(tmp_path) == []
    assert np.array_equal(np.random.get_state()[1], before)
