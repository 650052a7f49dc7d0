"""Store results, one file per (task, model, settings), so that a resumed run repeats no finished work."""

import hashlib
import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from pydantic import TypeAdapter

from lpcompress.atomic import remove_leftovers, write_atomically
from lpcompress.processes import Workers

T = TypeVar("T")

PARTS = ".parts"  # suffix of the directory of finished parts, beside the result


class Store(Generic[T]):
    """Results of one kind, stored in a directory.

    Parameters
    ----------
    directory : Path
        Created with the first result.
    resume : bool
        Whether to read stored results; otherwise everything is computed again.
    kind : TypeAdapter
        Writes and reads them.
    """

    def __init__(self, directory: Path, resume: bool, kind: TypeAdapter[T]) -> None:
        self._directory, self._resume, self._kind = directory, resume, kind

    @classmethod
    def beside(cls, result: Path, resume: bool, kind: TypeAdapter[T]) -> Self:
        """Return the store of a result: a directory beside it, with its name and the suffix `.parts`."""
        return cls(Path(f"{result}{PARTS}"), resume, kind)

    def kept(self, task: str, key: dict[str, Any], workers: Workers, make: Callable[[], T]) -> T:
        """Return what an earlier run stored under exactly this key, or make and store it, the same in every process."""
        found: T | None = workers.from_main(self.recall(task, key) if workers.is_main else None)
        if found is not None:
            return found
        made = make()
        workers.main_alone(lambda: self.keep(task, key, made))
        return made

    def recall(self, task: str, key: dict[str, Any]) -> T | None:
        """Return the result stored under exactly this key, or None."""
        path = self._path(task, key)
        if not self._resume or not path.exists():
            return None
        with suppress(OSError):  # a run that was killed just after it had written this leaves its workspace
            remove_leftovers(path)
        try:
            return self._kind.validate_python(json.loads(path.read_text(encoding="utf-8"))["outcome"])
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{path} is garbled and will be computed again.", stacklevel=2)
            return None

    def keep(self, task: str, key: dict[str, Any], outcome: T) -> None:
        """Store a result, with its key in readable form."""
        document = {"key": key, "outcome": self._kind.dump_python(outcome, mode="json")}
        write_atomically(self._path(task, key), json.dumps(document, allow_nan=False) + "\n")

    def _path(self, task: str, key: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self._directory / f"{task}-{digest}.json"
