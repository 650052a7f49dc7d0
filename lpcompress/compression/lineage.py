"""What the card of a model says that stays true of a smaller version: licence, languages, data, purpose."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load
from yaml import YAMLError

from lpcompress.checkpoints.files import CARD_FILE

INHERITED = ("license", "license_name", "license_link", "language", "datasets", "pipeline_tag")


def inherited(directory: Path | None) -> dict[str, Any]:
    r"""Return the metadata that the card of a smaller version inherits; empty if there is no readable card.

    Parameters
    ----------
    directory : Path or None
        Of the model that it is made from.

    Examples
    --------
    >>> import tempfile
    >>> directory = Path(tempfile.mkdtemp())
    >>> _ = (directory / "README.md").write_text("---\nlicense: mit\ntags: [bert]\n---\n# Mine")
    >>> inherited(directory)
    {'license': 'mit'}
    """
    found: Any = None
    if directory is not None:
        with suppress(OSError, ValueError, YAMLError):
            found = metadata_load(directory / CARD_FILE)
    known = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in known if key in INHERITED and _is_text(value)}


def _is_text(value: Any) -> bool:
    """Return whether a value is what cards hold there: a text or several; anybody may have written the card."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))
