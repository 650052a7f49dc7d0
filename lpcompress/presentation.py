"""Format numbers, tables and JSON for output."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lpcompress.errors import LpCompressError

PLACES = ("model", "baseline", "distill", "data")  # keys of documents whose values may be relative paths
MIN_WIDTH = 72  # of a table, so that its title fits on one line
MOST_RANKS = 6  # listed in a table cell before the rest becomes "..."


def as_json(result: object) -> str:
    """Return a result as one JSON document.

    A dataclass becomes the result of its method `document` if it has one, else a mapping of all its fields.

    Raises
    ------
    LpCompressError
        If a number is NaN or infinite.

    Examples
    --------
    >>> print(as_json({"layers": 2}))
    {
      "layers": 2
    }
    """
    try:
        return json.dumps(result, indent=2, allow_nan=False, default=_document)
    except ValueError:
        raise LpCompressError("the result holds a number that is NaN or infinite, which JSON cannot express.") from None


def _document(value: Any) -> Any:
    return value.document() if hasattr(value, "document") else asdict(value)


def is_local(name: str) -> bool:
    """Return whether the name of a model is a path, not an id on the Hub.

    Examples
    --------
    >>> is_local("org/model"), is_local("./model"), is_local("/home/me/model")
    (False, True, True)
    """
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    return absolute or name.startswith((".", "~")) or os.path.exists(name)


def published(document: Any, key: str = "") -> Any:
    """Return a document in which local paths are shortened to `./` and their last part.

    For files in a checkpoint, which others may see: where it lay on somebody's disk is not their concern, and of no use
    to them.

    Parameters
    ----------
    document : mapping, list or plain value
    key : str, optional
        What the document is called in a larger one.

    Examples
    --------
    >>> published({"model": "/home/me/mrpc", "baseline": "org/mrpc", "tasks": {"rte": {"model": "~/rte"}}})
    {'model': './mrpc', 'baseline': 'org/mrpc', 'tasks': {'rte': {'model': './rte'}}}
    """
    if isinstance(document, dict):
        return {name: published(value, name) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [published(value, key) for value in document]
    if not isinstance(document, str) or "\n" in document:
        return document
    path = PureWindowsPath(document) if PureWindowsPath(document).drive else PurePosixPath(document)
    relative = key == "out" or (key in PLACES and is_local(document))
    hidden = relative or path.is_absolute() or document.startswith("~")
    return f"./{path.name or Path(document).resolve().name}" if hidden else document


def dimensions(shape: list[int]) -> str:
    """Format a shape.

    Examples
    --------
    >>> dimensions([30522, 384])
    '30,522 x 384'
    """
    return " x ".join(f"{size:,}" for size in shape)


def megabytes(count: int) -> str:
    """Format a number of bytes in megabytes of 10^6 bytes.

    Examples
    --------
    >>> megabytes(90868376)
    '90.9 MB'
    """
    return f"{count / 1e6:,.1f} MB"


def points(value: float | None) -> str:
    """Format a score in points; None becomes a dash.

    Examples
    --------
    >>> points(83.456), points(None)
    ('83.46', '-')
    """
    return "-" if value is None else f"{value:z.2f}"


def short_list(numbers: Sequence[object]) -> str:
    """List numbers or names on one line; a long list ends in dots and its length.

    Examples
    --------
    >>> short_list([323, 367]), short_list(list(range(9)))
    ('323, 367', '0, 1, 2, 3, 4, 5, ... (9)')
    """
    shown = ", ".join(map(str, numbers[:MOST_RANKS]))
    return shown + (f", ... ({len(numbers)})" if len(numbers) > MOST_RANKS else "")


def plain_table(title: str, *headings: str) -> Table:
    """Return an empty table in the style that all reports share."""
    return Table(
        *headings, title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, min_width=MIN_WIDTH
    )
