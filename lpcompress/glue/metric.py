"""GLUE's metrics for programs that use `evaluate`; `evaluate.load("glue", ...)` downloads code from the Hub."""

from typing import Any

import datasets
import evaluate
import numpy as np

from lpcompress.glue.metrics import compute
from lpcompress.glue.tasks import Task


class GlueMetric(evaluate.Metric):
    """The metrics of one GLUE task as an `evaluate.Metric`; works offline and writes no file.

    Parameters
    ----------
    task : Task
    **settings
        Arguments of `evaluate.Metric`.

    Examples
    --------
    >>> from lpcompress.glue.tasks import TASKS
    >>> metric = GlueMetric(TASKS["mrpc"])
    >>> metric.add_batch(predictions=[1, 1], references=[1, 1])
    >>> metric.add_batch(predictions=[0, 0], references=[1, 0])
    >>> metric.compute()
    {'accuracy': 75.0, 'f1': 80.0}
    """

    def __init__(self, task: Task, **settings: Any) -> None:
        self.task = task
        super().__init__(config_name=task.key, keep_in_memory=True, **settings)

    def _build_data_dir(self) -> str:
        return ""  # the default creates an empty cache directory, even with everything in memory

    def _info(self) -> evaluate.MetricInfo:
        kind = datasets.Value("int64" if self.task.classes else "float64")
        return evaluate.MetricInfo(
            description=f"{', '.join(self.task.metrics)} of GLUE's {self.task.spelling}, in points",
            citation="Wang et al., GLUE: A Multi-Task Benchmark and Analysis Platform, 2018. arXiv:1804.07461",
            inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),  # "numpy" would give float32
        )

    def _compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        return compute(self.task, np.asarray(predictions), np.asarray(references))
