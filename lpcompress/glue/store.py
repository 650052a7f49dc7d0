"""One file for each (task, model, settings): what a killed run had finished, a resumed one need not do again."""

import hashlib
import json
import os
import re
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lpcompress.checkpoint import flush, is_running
from lpcompress.errors import LpCompressError
from lpcompress.glue.results import Outcome


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
        """Return what was kept under exactly this key, None if there is nothing."""
        path = self._path(task, key)
        if not self._resume or not path.exists():
            return None
        try:
            return Outcome(**json.loads(path.read_text(encoding="utf-8"))["outcome"])
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{path} is garbled and is made again.", stacklevel=2)
            return None

    def keep(self, task: str, key: dict[str, Any], outcome: Outcome) -> None:
        """Write an outcome, and its key for people to read."""
        document = {"key": key, "outcome": asdict(outcome)}
        write_atomically(self._path(task, key), json.dumps(document, allow_nan=False) + "\n")

    def _path(self, task: str, key: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self._directory / f"{task}-{digest}.json"


def refuse_unwritable(path: Path) -> None:
    """Raise unless results can be written to `path` and beside it; meant to be called before the long work."""
    parent = next(each for each in path.resolve().parents if each.exists())
    if path.is_dir():
        raise LpCompressError(f"{path} must be a file for the results. It is a directory.")
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise LpCompressError(f"{path} cannot be written: {parent} is not a directory you may write to.")


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it holds, at any moment, the old text or the new one; remove what killed runs left.

    Raises
    ------
    LpCompressError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(".*.tmp-*"):
            owner = re.search(r"\.json\.tmp-(\d+)$", leftover.name)
            if owner and not is_running(int(owner[1])):
                leftover.unlink(missing_ok=True)
        temporary.write_text(text, encoding="utf-8")
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise LpCompressError(f"{path} cannot be written: {error.strerror}. Name another file with --out.") from error
    finally:
        temporary.unlink(missing_ok=True)
