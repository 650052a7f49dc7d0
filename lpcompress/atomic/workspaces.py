"""Workspaces: directories for unfinished work, each of which belongs to one living process.

The owner holds a lock on a file in its workspace. The kernel releases it when the process ends, however it ends, so
whoever gets the lock may remove what a dead owner left. Unlike process ids, locks are right across containers, and
across machines where the file system shares locks, as NFS does. Where it has none, nothing of others is ever removed.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ENDING = ".lpcompress"  # of a workspace's name
LOCK = ".lpcompress-lock"
TRIES = 1000  # to create a workspace while others remove it or its parents; in /proc, for example, it never works
LONGEST = 255 - len(ENDING) - 1  # bytes of a name that can be part of a workspace's


def beside(target: Path) -> Path:
    """Return where the workspace for a file or directory stands: beside it, hidden.

    Examples
    --------
    >>> beside(Path("results/scores.json")).as_posix()
    'results/.scores.json.lpcompress'
    """
    name = target.name if len(os.fsencode(target.name)) <= LONGEST else _digest(target.name)
    return target.with_name(f".{name}{ENDING}")


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()


@contextmanager
def claimed(workspace: Path, wait: bool = True) -> Iterator[Path]:
    """Create a workspace, or take over a dead owner's with all that is in it; remove it when the block ends.

    Parameters
    ----------
    workspace : Path
        Missing parents are created. Those that are still empty at the end are removed.
    wait : bool, default=True
        Wait while another process owns the workspace.

    Yields
    ------
    Path
        The workspace.

    Raises
    ------
    BlockingIOError
        If another process owns it: at once without `wait`, or if the file system has no locks.
    OSError
        If it cannot be created.

    Examples
    --------
    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "here"
    >>> with claimed(place) as workspace:
    ...     try:
    ...         claimed(place, wait=False).__enter__()
    ...     except BlockingIOError:
    ...         print("taken")
    taken
    >>> place.exists()
    False
    """
    missing = [parent for parent in workspace.parents if not parent.exists()]
    lock = None
    try:
        lock = _enter(workspace, wait)
        yield workspace
    finally:
        if lock is not None:
            _leave(workspace, lock)
        for parent in missing:
            with suppress(OSError):  # something is in it
                parent.rmdir()


def _enter(workspace: Path, wait: bool) -> int:
    """Return the descriptor of the locked file."""
    while True:
        lock, new = _open(workspace)
        try:
            _lock(lock, wait, new)
            if _is_at(lock, workspace / LOCK):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _open(workspace: Path) -> tuple[int, bool]:
    """Return a descriptor of the file to lock, and whether its directory is new."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):  # another process has just removed the workspace or a parent
            new = _make(workspace)
            return os.open(workspace / LOCK, os.O_RDWR | os.O_CREAT, 0o600), new
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(workspace))


def _make(workspace: Path) -> bool:
    """Create the directory; return whether it is new."""
    try:
        workspace.parent.mkdir(parents=True, exist_ok=True)
        workspace.mkdir(mode=0o700)
    except FileExistsError:
        if not stat.S_ISDIR(workspace.lstat().st_mode):
            raise
        return False
    return True


def _lock(descriptor: int, wait: bool, new: bool) -> None:
    try:
        if fcntl is None:
            raise OSError("this system has no locks")
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if not new:  # it may be in use
            raise BlockingIOError(error.errno, "in use") from error


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether a path is still that of an open file: an owner that was waited for may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _leave(workspace: Path, lock: int) -> None:
    """Remove a workspace; the lock goes last, for from then on another process may create it anew."""
    for each in workspace.iterdir():
        if each.name != LOCK:
            remove(each)
    (workspace / LOCK).unlink(missing_ok=True)
    os.close(lock)
    with suppress(OSError):
        workspace.rmdir()


def remove(path: Path) -> None:
    """Remove a file or a directory as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def is_left(workspace: Path) -> bool:
    """Return whether there is a workspace, of a living or of a dead process."""
    return (workspace / LOCK).is_file()


def flush(path: Path) -> None:
    """Flush the content of a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def probe(workspace: Path) -> None:
    """Write a little into a workspace, so that what forbids writing is found before the work.

    Raises
    ------
    OSError
        If the disk is full, for example.
    """
    file = workspace / "probe"
    file.write_bytes(bytes(4096))
    flush(file)
    file.unlink()
