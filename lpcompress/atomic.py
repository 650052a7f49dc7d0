"""Write files and directories atomically: completely, or not at all."""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lpcompress.errors import LpCompressError


@contextmanager
def atomic_directory(out: Path) -> Iterator[Path]:
    """Yield a new directory that replaces `out` when the block succeeds.

    Until then it is a hidden sibling of `out`. If the block raises, or the process is killed, `out` stays unchanged.

    Parameters
    ----------
    out : Path
        Missing parents are created. An existing directory is removed only when the new one is in place.

    Yields
    ------
    Path
        The directory to write to.

    Raises
    ------
    OSError
        If the directory cannot be written; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "results"
    >>> with atomic_directory(out) as directory:
    ...     _ = (directory / "report.json").write_text("{}")
    ...     out.exists()
    False
    >>> [file.name for file in out.iterdir()]
    ['report.json']
    """
    temporary = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        mode = temporary.stat().st_mode & 0o666  # as the umask grants; safetensors writes files with fewer permissions
        for file in [*temporary.rglob("*"), temporary]:
            if file.is_file():
                file.chmod(mode)
            flush(file)
        _put_in_place(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, out: Path) -> None:
    """Rename the complete directory to `out`, and only then remove the previous one."""
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    if out.exists():
        out.rename(old)
    try:
        temporary.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise
    flush(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(out: Path) -> None:
    """Remove temporary siblings left by killed runs; restore the old directory of a run killed while replacing it."""
    for sibling in out.parent.glob(f".{glob.escape(out.name)}.*-*"):
        match = re.fullmatch(r"\.(tmp|old)-(\d+)", sibling.name.removeprefix(f".{out.name}"))
        if match is None or is_running(int(match[2])):
            continue
        if match[1] == "old" and not out.exists():
            sibling.rename(out)
        else:
            shutil.rmtree(sibling, ignore_errors=True)


def is_running(process: int) -> bool:
    """Return whether another process with this id is running."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def flush(path: Path) -> None:
    """Flush the content of a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_unwritable(path: Path) -> None:
    """Raise LpCompressError unless a result file can be written to `path`; call this before the long computation."""
    parent = next(each for each in path.resolve().parents if each.exists())
    if path.is_dir():
        raise LpCompressError(f"{path} must be a file for the results. It is a directory.")
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise LpCompressError(f"{path} cannot be written: {parent} is not a directory you may write to.")


def write_atomically(path: Path, text: str) -> None:
    """Write a file such that it holds either the old or the new text at any moment.

    Temporary files of killed runs in the same directory are removed.

    Parameters
    ----------
    path : Path
        Missing parents are created.
    text : str

    Raises
    ------
    LpCompressError
        If the file cannot be written.
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
