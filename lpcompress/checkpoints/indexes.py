"""Indexes of sharded checkpoints: which file holds which tensor."""

import json
from pathlib import Path

from lpcompress.errors import CheckpointError


def read_index(file: Path) -> dict[str, str]:
    """Return the names of tensors -> the names of the files that hold them.

    Raises
    ------
    CheckpointError
        If the index cannot be read, or says something else.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "model.safetensors.index.json"
    >>> _ = file.write_text('{"weight_map": {"bias": "model-00001-of-00002.safetensors"}}')
    >>> read_index(file)
    {'bias': 'model-00001-of-00002.safetensors'}
    """
    try:
        files = json.loads(file.read_bytes())["weight_map"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        files = None
    if not (isinstance(files, dict) and files and all(isinstance(name, str) for name in files.values())):
        raise CheckpointError(f"{file} must say which file holds which tensor. It is damaged: copy it again.")
    return files
