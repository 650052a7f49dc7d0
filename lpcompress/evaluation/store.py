"""One file for each (task, model, settings), so that a resumed run repeats nothing that a killed one had finished."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from lpcompress.atomic import write_atomically
from lpcompress.evaluation.results import Outcome


class Store:
    """The outcomes in a directory.

    Parameters
    ----------
    directory : Path
        Made when the first outcome is kept.
    resume : bool
        Whether to read what is there; without it everything is done again.
    """

    def __init__(self, directory: Path, resume: bool) -> None:
        self._directory, self._resume = directory, resume

    def recall(self, task: str, key: dict[str, Any]) -> Outcome | None:
        """Return the outcome that was kept under exactly this key, None if there is none."""
        path = self._path(task, key)
        if not self._resume or not path.exists():
            return None
        try:
            return Outcome.from_document(json.loads(path.read_text(encoding="utf-8"))["outcome"])
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{path} is garbled and is made again.", stacklevel=2)
            return None

    def keep(self, task: str, key: dict[str, Any], outcome: Outcome) -> None:
        """Write an outcome, and its key for people to read."""
        document = {"key": key, "outcome": outcome.document()}
        write_atomically(self._path(task, key), json.dumps(document, allow_nan=False) + "\n")

    def _path(self, task: str, key: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self._directory / f"{task}-{digest}.json"
