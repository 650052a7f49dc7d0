"""Write files atomically: completely, or not at all."""

import os
import shutil
from pathlib import Path

from lpcompress.atomic.workspaces import beside, claimed, flush, probe
from lpcompress.errors import LpCompressError


def refuse_unwritable(path: Path, overwrite: bool = True) -> None:
    """Raise LpCompressError unless a result file can be written to `path`; call this before the long computation.

    Parameters
    ----------
    path : Path
    overwrite : bool, default=True
        Whether an existing file may be replaced.
    """
    try:
        real = path.resolve()
        if real.is_dir():
            raise LpCompressError(f"{path} must be a file for the results. It is a directory.")
        if real.exists() and not real.is_file():
            raise LpCompressError(f"{path} must be a file for the results. It is a device or a pipe.")
        if real.exists() and not overwrite:
            raise FileExistsError
        parent = next(each for each in real.parents if each.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise LpCompressError(f"{path} cannot be written: {parent} is not a directory you may write to.")
        if real.exists() and not os.access(real, os.W_OK):
            raise LpCompressError(f"{path} cannot be written: you may not change it. Choose another file.")
        with claimed(beside(real)) as workspace:
            probe(workspace)
    except OSError as error:
        raise _refusal(path, error) from error


def write_atomically(path: Path, content: str | bytes, overwrite: bool = True) -> None:
    """Write a file such that it holds either the old or the new content at any moment.

    Parameters
    ----------
    path : Path
        Missing parents are created. An existing file keeps its permissions; a link stays one.
    content : str or bytes
        Text is written as UTF-8.
    overwrite : bool, default=True
        Whether an existing file may be replaced.

    Raises
    ------
    LpCompressError
        If the file cannot be written, or exists and may not be replaced.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "results.json"
    >>> write_atomically(path, "{}")
    >>> [each.name for each in path.parent.iterdir()]
    ['results.json']
    """
    try:
        real = path.resolve()
        with claimed(beside(real)) as workspace:
            new = workspace / "new"
            new.write_bytes(content.encode() if isinstance(content, str) else content)
            if real.exists():
                if not overwrite:
                    raise FileExistsError
                shutil.copymode(real, new)
            flush(new)
            new.replace(real)
            flush(real.parent)
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: OSError) -> LpCompressError:
    if isinstance(error, FileExistsError):
        return LpCompressError(f"{path} exists. Choose another file, or pass --overwrite to replace it.")
    return LpCompressError(f"{path} cannot be written: {error.strerror}. Choose another file.")
