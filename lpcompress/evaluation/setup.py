"""What all tasks of a run share, and what may be made of a model before it is scored again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpcompress.compression.records import CompressionReport
from lpcompress.evaluation.store import Store
from lpcompress.glue.data import HUB
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent


@dataclass(frozen=True)
class Setup:
    """What all tasks of a run share.

    Attributes
    ----------
    workers : Workers
    data : str
        `hub` or a directory.
    limit : int or None
        Only so many rows of each split.
    batch_size : int
    label_map : Path or None
        See `glue.labels.read_label_map`.
    primary : dict of str to str
        Task -> the one metric that is its score.
    seed : int
        Seed of the bootstrap.
    store : Store or None
        Where outcomes are kept for a resumed run.
    context : dict
        What else the predictions depend on, for the store's keys: versions.
    progress : callable (description, done, total)
    """

    workers: Workers
    data: str = HUB
    limit: int | None = None
    batch_size: int = 32
    label_map: Path | None = None
    primary: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    store: Store | None = None
    context: dict[str, Any] = field(default_factory=dict)
    progress: Progress = silent


@dataclass(frozen=True)
class Variant:
    """Something to make of a model before it is scored again.

    Attributes
    ----------
    name : str
    prepare : callable (model, tokenizer, progress) -> CompressionReport
        Changes the model in place; may replace modules, must not write into tensors.
    key : dict
        What the result depends on, for the store's keys.
    """

    name: str
    prepare: Callable[[Any, Any, Progress], CompressionReport]
    key: dict[str, Any]
