"""Write directories atomically: completely, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lpcompress.atomic.workspaces import ENDING, beside, claimed, flush, is_left, probe, remove

INSIDE = ENDING  # name of the workspace in a directory that exists already
NOT_CONTENT = (INSIDE, "lost+found")  # the second is in every new ext4 volume
NEW, COMPLETE, OLD = "new", "complete", "old"  # directories in a workspace


def entries(directory: Path) -> list[Path]:
    """Return what is in a directory, sorted, except workspaces and what the file system keeps there."""
    return sorted(each for each in directory.iterdir() if each.name not in NOT_CONTENT)


@contextmanager
def atomic_directory(out: Path, last: str = "") -> Iterator[Path]:
    """Yield a new directory whose content becomes that of `out` when the block succeeds.

    If the block raises, or the process is killed, `out` stays unchanged. An existing directory is never replaced
    itself: it may be a mount point, or have permissions of its own. The new files are moved into it. Whoever is killed
    while moving leaves a directory without `last`, and `remove_leftovers` completes it.

    Parameters
    ----------
    out : Path
        Missing parents are created. The previous content is removed only when the new one is in place.
    last : str, optional
        The file without which nobody takes the directory for complete. It goes first, and comes last.

    Yields
    ------
    Path
        The directory to write to.

    Raises
    ------
    OSError
        If the directory cannot be written; nothing is left behind. Also if something that is not an empty directory
        has been created at `out` meanwhile.

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
    with _claimed_for(out) as workspace:
        _finish(workspace, out, last)
        new = workspace / NEW
        new.mkdir()
        yield new
        mode = new.stat().st_mode & 0o666  # as the umask grants; safetensors writes files with fewer permissions
        for file in [*new.rglob("*"), new]:
            if file.is_file():
                file.chmod(mode)
            flush(file)
        if workspace.parent == out:
            _exchange(workspace, out, last)
        else:
            new.rename(out)  # fails if a file or a full directory has appeared there
        flush(out.parent)


def refuse_unwritable_directory(out: Path) -> None:
    """Raise OSError unless `atomic_directory` can write to `out`; BlockingIOError if another process is doing so."""
    with _claimed_for(out, wait=False) as workspace:
        probe(workspace)


def remove_leftovers(out: Path, last: str = "") -> None:
    """Remove what killed runs left beside and in `out`, after completing what they were moving into it.

    Raises
    ------
    OSError
        If it cannot be removed; BlockingIOError if another process is writing to `out`.
    """
    for workspace in filter(is_left, (out / INSIDE, *([beside(out)] if out.name else []))):  # the root has no name
        with claimed(workspace, wait=False):
            _finish(workspace, out, last)


@contextmanager
def _claimed_for(out: Path, wait: bool = True) -> Iterator[Path]:
    """Claim the workspace of a directory: inside it if it exists, since its parent may belong to somebody else."""
    while True:
        place = _place_of(out)
        with claimed(place, wait) as workspace:
            if place == _place_of(out):
                yield workspace
                return


def _place_of(out: Path) -> Path:
    return out / INSIDE if out.is_dir() else beside(out)


def _exchange(workspace: Path, out: Path, last: str) -> None:
    """Move the old content of `out` into the workspace and the new one out of it; undo that on any error."""
    old, done = workspace / OLD, []
    old.mkdir()

    def move(source: Path, target: Path) -> None:
        source.rename(target)
        done.append((source, target))

    try:
        for each in sorted(entries(out), key=lambda path: path.name != last):
            move(each, old / each.name)
        move(workspace / NEW, workspace / COMPLETE)  # from here on, whoever finds it completes it
        for each in _in_order(workspace / COMPLETE, last):
            move(each, out / each.name)
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        raise


def _finish(workspace: Path, out: Path, last: str) -> None:
    """Finish what a killed process was doing: complete the new content if it was complete, else restore the old one."""
    source = next((each for name in (COMPLETE, OLD) if (each := workspace / name).is_dir()), None)
    for each in _in_order(source, last) if source else ():
        if not (out / each.name).exists():  # else it is somebody else's
            each.rename(out / each.name)
    for name in (NEW, COMPLETE, OLD):
        remove(workspace / name)


def _in_order(directory: Path, last: str) -> list[Path]:
    return sorted(directory.iterdir(), key=lambda path: (path.name == last, path.name))
