"""Load and check the rows of a GLUE split, from the Hub or a local directory."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from lpcompress.config.scoring import HUB
from lpcompress.errors import LpCompressError
from lpcompress.glue import files
from lpcompress.glue.files import LABEL, Columns
from lpcompress.glue.tasks import Task
from lpcompress.hub import REPOSITORY, UNREACHABLE, answers

UNLABELLED = (-1, None, "", "-1")
LARGEST_SIMILARITY = 5.0  # of STS-B


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one split.

    Attributes
    ----------
    task : Task
    split : str
    texts : tuple of list of str
        One or two columns, in the order of `task.columns`.
    labels : array of shape (n,) or None
        Class numbers (int64) or regression values (float64); None if the rows are unlabelled.
    fingerprint : str
        SHA-256 of texts and labels; it does not depend on the file format.
    """

    task: Task
    split: str
    texts: tuple[list[str], ...]
    labels: np.ndarray | None
    fingerprint: str

    def __len__(self) -> int:
        return len(self.texts[0])


def load_rows(task: Task, split: str, source: str | Path = HUB, limit: int | None = None) -> Rows:
    """Return the rows of a split.

    Parameters
    ----------
    task : Task
    split : str
        As on the Hub: `validation`, `validation_matched`, ...
    source : str or Path, default="hub"
        `hub`, or a directory with `<task>/<split>.parquet`, `.tsv` or `.jsonl`, or with GLUE's original archive.
    limit : int, optional
        Number of rows to keep, the first ones. By default all.

    Raises
    ------
    LpCompressError
        If there are no such rows, the Hub does not answer, or columns or labels are not those of the task.

    Examples
    --------
    >>> import tempfile
    >>> from lpcompress.glue.tasks import TASKS
    >>> scratch = tempfile.TemporaryDirectory()
    >>> root = Path(scratch.name)
    >>> (root / "sst2").mkdir()
    >>> _ = (root / "sst2" / "validation.jsonl").write_text('{"sentence": "a fine film", "label": "positive"}')
    >>> rows = load_rows(TASKS["sst2"], "validation", root)
    >>> rows.texts, rows.labels
    ((['a fine film'],), array([1]))
    >>> scratch.cleanup()
    """
    paths = [_download(task, split)] if source == HUB else files.find(Path(source).expanduser(), task, split)
    columns = files.read(paths, task)
    missing = [name for name in task.columns if name not in columns]
    if missing:
        raise LpCompressError(
            f"{paths[0]} must have the columns {', '.join((*task.columns, LABEL))}. It lacks {', '.join(missing)}."
        )
    columns = {name: values[:limit] for name, values in columns.items()}
    texts = tuple(_texts(columns[name], f"{paths[0]}, column {name}") for name in task.columns)
    if not texts[0]:
        raise LpCompressError(f"{paths[0]} must hold rows of {task.key}. It holds none.")
    labels = _labels(columns, task, str(paths[0]))
    return Rows(task, split, texts, labels, _fingerprint(task, texts, labels))


def _download(task: Task, split: str) -> Path:
    """Return a split's parquet file from the Hub, or from the cache if the Hub does not answer."""
    name = f"{task.key}/{split}-00000-of-00001.parquet"
    cached = not answers()  # checked first, because a download tries for 23 seconds
    try:
        return Path(huggingface_hub.hf_hub_download(REPOSITORY, name, repo_type="dataset", local_files_only=cached))
    except LocalEntryNotFoundError:
        raise LpCompressError(
            f"{REPOSITORY}, {task.key}, {split} is not in the local cache, and the Hub cannot be reached. Check the"
            " network and HF_HUB_OFFLINE, or give a directory with GLUE: --data DIR."
        ) from None
    except EntryNotFoundError:
        raise LpCompressError(
            f"{REPOSITORY} on the Hub has no file {name}. Give a directory that has it: --data DIR."
        ) from None
    except UNREACHABLE as error:
        raise LpCompressError(
            f"{REPOSITORY}, {name} cannot be downloaded ({type(error).__name__}). Try again, or give a directory with"
            " GLUE: --data DIR."
        ) from error


def _texts(values: list[Any], where: str) -> list[str]:
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise LpCompressError(f"{where}, row {i + 1}: must be text. Got {value!r}.")
    return values


def _labels(columns: Columns, task: Task, where: str) -> np.ndarray | None:
    """Return the labels as numbers, or None if every row is unlabelled."""
    values = columns.get(LABEL, [])
    if all(value in UNLABELLED for value in values):
        return None
    numbers = [_label(value, task) for value in values]
    for i, value in enumerate(values):
        if numbers[i] is None:
            wanted = " or ".join(task.classes) if task.classes else f"a number from 0 to {LARGEST_SIMILARITY:g}"
            raise LpCompressError(f"{where}, row {i + 1}: the label of {task.key} must be {wanted}. Got {value!r}.")
    # the Hub stores similarities in single precision; other files must give the same numbers
    return np.array(numbers, dtype=np.int64) if task.classes else np.array(numbers, np.float32).astype(np.float64)


def _label(value: Any, task: Task) -> float | None:
    """Return a label as a number, or None if the task has no such label."""
    if task.classes:
        return task.class_id(int(value) if isinstance(value, float) and value.is_integer() else value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= LARGEST_SIMILARITY else None


def _fingerprint(task: Task, texts: tuple[list[str], ...], labels: np.ndarray | None) -> str:
    digest = hashlib.sha256(task.key.encode())
    for column in texts:
        for text in column:
            content = text.encode()
            digest.update(len(content).to_bytes(8, "little") + content)
    digest.update(b"" if labels is None else labels.tobytes())
    return digest.hexdigest()
