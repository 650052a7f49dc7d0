"""Read JSON results, and tell what they are."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lpcompress.errors import LpCompressError, cut
from lpcompress.filenames import REPORT_FILE
from lpcompress.pages import compression, finetuning, glue, inspection, sweep
from lpcompress.pages.sections import Document, Section


@dataclass(frozen=True)
class Kind:
    """A kind of document.

    Attributes
    ----------
    name : str
        What it is, with the command that writes it.
    keys : set of str
        Keys that all of its documents have, and none of another kind has together.
    sections_of : callable (document) -> list of Section
    """

    name: str
    keys: frozenset[str]
    sections_of: Callable[[Document], list[Section]]


KINDS = (
    Kind("lpcompress.json (compress)", frozenset({"layers", "file_bytes_after"}), compression.sections_of),
    Kind("scores (eval-glue --out)", frozenset({"caption", "settings", "gates"}), glue.sections_of),
    Kind("finetuning.json (finetune)", frozenset({"train_loss", "task"}), finetuning.sections_of),
    Kind("a description (inspect --json)", frozenset({"groups", "architecture"}), inspection.sections_of),
    Kind("sweep.json (sweep)", frozenset({"points", "dense"}), sweep.sections_of),
)


def read_sections(files: Sequence[Path]) -> list[Section]:
    """Return the sections of all files, in their order.

    Parameters
    ----------
    files : sequence of Path
        JSON results; a directory stands for the `lpcompress.json` in it.

    Raises
    ------
    LpCompressError
        If a file cannot be read, is no result of lpcompress, or lacks something.
    """
    return [section for file in files for section in _sections(file / REPORT_FILE if file.is_dir() else file)]


def _sections(file: Path) -> list[Section]:
    document = _read(file)
    kind = next((each for each in KINDS if isinstance(document, dict) and each.keys <= document.keys()), None)
    if kind is None:
        known = "; ".join(each.name for each in KINDS)
        raise LpCompressError(f"{file} must be a JSON result of lpcompress. It is none of: {known}.")
    try:
        return kind.sections_of(document)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:  # edited, or cut off
        what = f"It lacks {error}" if isinstance(error, KeyError) else f"A value is of another kind ({_first(error)})"
        raise LpCompressError(f"{file} must be {kind.name} as it was written. {what}; write it again.") from error


def _first(error: Exception) -> str:
    found = error.errors()[0] if isinstance(error, ValidationError) else None
    return cut(f"{found['loc'][0]}: {found['msg']}" if found else str(error))


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LpCompressError(f"{file} must be a JSON result of lpcompress. There is no such file.") from None
    except OSError as error:
        raise LpCompressError(f"{file} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise LpCompressError(f"{file} must be a JSON result of lpcompress. It is not JSON.") from None
