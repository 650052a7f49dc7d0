"""Results of one task: an `Outcome` per model and a `TaskResult` per comparison, and their JSON forms.

pydantic writes and reads the dataclasses as declared, so that no key is spelled twice.
"""

from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from lpcompress.compression.records import CompressionReport
from lpcompress.glue.labels import LabelMap

OK, UNLABELLED, FAILED, NOT_AVAILABLE = "ok", "unlabelled", "failed", "not available"


@dataclass(frozen=True)
class Outcome:
    """Predictions and metrics of one model on one task, as stored for a resumed run.

    Attributes
    ----------
    model : str
        Hub id or directory.
    predictions : dict of str to list
        Split -> predicted class number (or regression value) of each row, in the order of the data set.
    metrics : dict of str to float
        In points; empty if the rows are unlabelled.
    labels : LabelMap
        Meaning of the model's outputs.
    compression : CompressionReport or None
        How the model was compressed; None if it was scored unchanged.
    seconds : float
        Time spent on tokenising and predicting.
    """

    model: str
    predictions: dict[str, list[int | float]]
    metrics: dict[str, float]
    labels: LabelMap
    compression: CompressionReport | None
    seconds: float


@dataclass(frozen=True)
class Split:
    """The scored rows of one split: their number and a hash of their content."""

    n: int
    fingerprint: str


@dataclass(frozen=True)
class TaskResult:
    """Result of a model on one task, compared with its baseline. Metrics, scores and drops are in points.

    Attributes
    ----------
    status : str
        `ok`, `unlabelled` (AX: predictions but no score), `failed` or `not available`.
    model : str or None
    n : int
        Number of rows in all splits.
    metrics, score, baseline_metrics, baseline_score
        Of the compressed model and of its baseline; without a baseline the latter are empty and None.
    drop, recovery : float or None
        Baseline minus compressed, and compressed over baseline (None if that is 0 or less).
    se, p_value : float or None
        Standard error of the drop (paired bootstrap), and p-value of McNemar's test if accuracy is a metric.
    agreement : float or None
        Percentage of rows with the baseline's predicted class.
    labels, compression
        As in `Outcome`.
    splits : dict of str to Split
    predictions : list of str or None
        Names of the predicted classes of unlabelled rows.
    seconds : float
        Time spent on tokenising and predicting, both models together.
    reason : str or None
        Why there is no result.
    """

    status: str
    model: str | None = None
    n: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    baseline_metrics: dict[str, float] = field(default_factory=dict)
    baseline_score: float | None = None
    drop: float | None = None
    se: float | None = None
    p_value: float | None = None
    recovery: float | None = None
    agreement: float | None = None
    labels: LabelMap | None = None
    splits: dict[str, Split] = field(default_factory=dict)
    compression: CompressionReport | None = None
    predictions: list[str] | None = None
    seconds: float = 0.0
    reason: str | None = None

    def entry(self) -> dict[str, Any]:
        """Return the task's entry in the JSON document; without a result, only status, model and reason.

        Examples
        --------
        >>> TaskResult(FAILED, "org/model", reason="no memory").entry()
        {'status': 'failed', 'model': 'org/model', 'reason': 'no memory'}
        """
        if self.reason is not None:
            return {"status": self.status, "model": self.model, "reason": self.reason}
        entry = TASK_RESULT.dump_python(self, mode="json")
        return {key: value for key, value in entry.items() if key not in ("reason", "predictions") or value}


OUTCOME, TASK_RESULT = TypeAdapter(Outcome), TypeAdapter(TaskResult)
