"""Decide what the outputs of a model mean, without ever using the scores of a compressed model."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from lpcompress.checkpoints.files import is_compressed
from lpcompress.errors import LpCompressError
from lpcompress.evaluation.classifier import Classifier
from lpcompress.evaluation.prediction import encode, logits
from lpcompress.evaluation.setup import Setup
from lpcompress.glue.data import Rows, load_rows
from lpcompress.glue.labels import LabelMap, decide
from lpcompress.glue.probe import PROBE_ROWS
from lpcompress.glue.tasks import TASKS


@dataclass(frozen=True)
class Reading:
    """Meaning of a baseline's outputs, which holds for models made from it whose outputs have the same names.

    Attributes
    ----------
    names : dict of int to str
        The `id2label` of the baseline's config.
    labels : LabelMap
    """

    names: dict[int, str]
    labels: LabelMap


def read_outputs(
    classifier: Classifier, rows: Rows, values: np.ndarray, setup: Setup, baseline: Reading | None = None
) -> LabelMap:
    """Decide what the outputs of a model mean.

    Parameters
    ----------
    classifier : Classifier
    rows : Rows
        Rows of the task's first split.
    values : ndarray of shape (n, outputs)
        The model's logits on them.
    setup : Setup
    baseline : Reading, optional
        Meaning of the outputs of the model that this one was made from.

    Raises
    ------
    LpCompressError, PlanError
        See `glue.labels.decide`; also if only a probe could decide and the model is compressed.
    """
    config = classifier.model.config
    if baseline and baseline.names == config.id2label:
        return baseline.labels
    uncompressed = not (baseline or is_compressed(config))
    answers = (values, rows.labels) if uncompressed and rows.labels is not None else None
    probe = partial(_probe, classifier, rows, values, setup) if uncompressed else partial(_refuse, classifier, rows)
    return decide(rows.task, config, classifier.name, probe, setup.scoring.label_map, answers)


def _refuse(classifier: Classifier, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    raise LpCompressError(
        f"{classifier.name}: the names of its outputs are not classes of {rows.task.key}, and a compressed model's own"
        " scores must not decide what they mean. Give the model it was made from with --baseline, or --label-map FILE."
    )


def _probe(classifier: Classifier, rows: Rows, values: np.ndarray, setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels of enough rows to decide what the outputs of an uncompressed model mean."""
    task = rows.task
    if task.head or (setup.scoring.limit or PROBE_ROWS) < PROBE_ROWS:
        head = TASKS[task.head or task.key]
        rows = load_rows(head, head.splits[0], setup.scoring.data, PROBE_ROWS)
        values = logits(classifier.model, encode(classifier.tokenizer, rows, setup.scoring.batch_size), setup.workers)
    if rows.labels is None:
        raise LpCompressError(f"{task.key}: rows must have labels. Those of {rows.split} have none.")
    return values[:PROBE_ROWS], rows.labels[:PROBE_ROWS]
