"""Format numbers, tables and JSON for output."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lpcompress.errors import LpCompressError

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
    return "-" if value is None else f"{value:.2f}"


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
