"""Store outcomes, one file per (task, model, settings), so that a resumed run repeats no finished work."""

import hashlib
import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from lpcompress.atomic import remove_leftovers, write_atomically
from lpcompress.evaluation.results import Outcome

PARTS = ".parts"  # suffix of the directory of finished parts, beside the result


class Store:
    """Outcomes stored in a directory.

    Parameters
    ----------
    directory : Path
        Created with the first outcome.
    resume : bool
        Whether to read stored outcomes; otherwise everything is computed again.
    """

    def __init__(self, directory: Path, resume: bool) -> None:
        self._directory, self._resume = directory, resume

    @classmethod
    def beside(cls, result: Path, resume: bool) -> Self:
        """Return the store of a result: a directory beside it, with its name and the suffix `.parts`."""
        return cls(Path(f"{result}{PARTS}"), resume)

    def recall(self, task: str, key: dict[str, Any]) -> Outcome | None:
        """Return the outcome stored under exactly this key, or None."""
        path = self._path(task, key)
        if not self._resume or not path.exists():
            return None
        with suppress(OSError):  # a run that was killed just after it had written this leaves its workspace
            remove_leftovers(path)
        try:
            return Outcome.from_document(json.loads(path.read_text(encoding="utf-8"))["outcome"])
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{path} is garbled and will be computed again.", stacklevel=2)
            return None

    def keep(self, task: str, key: dict[str, Any], outcome: Outcome) -> None:
        """Store an outcome, with its key in readable form."""
        document = {"key": key, "outcome": outcome.document()}
        write_atomically(self._path(task, key), json.dumps(document, allow_nan=False) + "\n")

    def _path(self, task: str, key: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self._directory / f"{task}-{digest}.json"
