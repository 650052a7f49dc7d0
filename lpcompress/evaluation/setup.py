"""Settings that all tasks of a run share, and variants of a model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lpcompress.compression.records import CompressionReport
from lpcompress.config.origin import Origin
from lpcompress.config.scoring import Scoring
from lpcompress.evaluation.prediction import MAX_LENGTH
from lpcompress.evaluation.results import Outcome
from lpcompress.evaluation.store import Store
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent
from lpcompress.version import versions


@dataclass(frozen=True)
class Setup:
    """Settings that all tasks of a run share.

    Attributes
    ----------
    workers : Workers
    scoring : Scoring
        Which rows, and how they are scored.
    store : Store or None
        Where outcomes are stored for a resumed run.
    context : dict
        Further values that the predictions depend on, for the store's keys; see `run_context`.
    progress : Progress
    origin : Origin
        Which version of the models; baselines have none.
    """

    workers: Workers
    scoring: Scoring = field(default_factory=Scoring)
    store: Store[Outcome] | None = None
    context: dict[str, Any] = field(default_factory=dict)
    progress: Progress = silent
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True)
class Variant:
    """A change to a model before it is scored again.

    Attributes
    ----------
    name : str
    prepare : callable (model, tokenizer, progress) -> CompressionReport
        Changes the model in place. It may replace modules but must not write into tensors.
    key : dict
        What the result depends on, for the store's keys.
    """

    name: str
    prepare: Callable[[Any, Any, Progress], CompressionReport]
    key: dict[str, Any]


def run_context() -> dict[str, Any]:
    """Return what predictions depend on besides models, rows and options."""
    return {"max_length": MAX_LENGTH, "versions": versions()}
