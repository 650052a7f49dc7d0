"""Read `lpcompress.json`, which may be damaged or edited; a bad file gives one sentence."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from lpcompress.errors import CheckpointError
from lpcompress.filenames import REPORT_FILE

WAY_OUT = "Delete the file to continue without it."


def read_document(directory: Path | None) -> Any:
    """Return the content of `lpcompress.json` in a directory, not yet validated; None if there is no such file.

    Raises
    ------
    CheckpointError
        If it is not JSON with finite numbers, or cannot be read.

    Examples
    --------
    >>> read_document(Path("/nowhere")) is None
    True
    """
    if directory is None or not (path := directory / REPORT_FILE).exists():
        return None
    try:
        return from_json(path.read_bytes(), allow_inf_nan=False)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}. {WAY_OUT}") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: must be JSON. Got {error}. {WAY_OUT}") from None


def complaint(error: ValidationError) -> str:
    """Return a sentence on pydantic's first error: the place, what must be there, and what was given."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "the document"
    if first["type"] == "missing":
        record = "the record of a layer" if len(first["loc"]) > 1 else "it"
        return f"{record} is incomplete ({place} must be given)"
    rule = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if first["type"] == "dataclass_type":
        rule = "must be an object"
    given = repr(first["input"])
    return f"{place} {rule}. Got {given if len(given) <= 60 else given[:60] + '...'}"
