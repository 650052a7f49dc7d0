"""Temporary files under TMPDIR; those of killed processes are removed at the next start."""

import secrets
import shutil
import tempfile
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path

from lpcompress.atomic.workspaces import claimed, is_left

PREFIX = "lpcompress-"


class ScratchDirectory:
    """A directory for temporary files (under TMPDIR), removed when this object is garbage-collected.

    Attributes
    ----------
    path : Path

    Examples
    --------
    >>> scratch = ScratchDirectory()
    >>> path = scratch.path
    >>> path.is_dir()
    True
    >>> del scratch
    >>> path.exists()
    False
    """

    def __init__(self) -> None:
        self._home = _home_in(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(dir=self._home.path))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class _Home:
    """The workspace of all scratch directories of this process: one lock, however many layers are kept on disk."""

    def __init__(self, root: Path) -> None:
        stack = ExitStack()
        self.path = stack.enter_context(claimed(root / f"{PREFIX}{secrets.token_hex(8)}"))
        weakref.finalize(self, stack.close)


_homes: weakref.WeakValueDictionary[Path, _Home] = weakref.WeakValueDictionary()


def _home_in(root: Path) -> _Home:
    home = _homes.get(root)
    if home is None:
        remove_abandoned(root)
        home = _homes[root] = _Home(root)
    return home


def remove_abandoned(root: Path) -> None:
    """Remove the scratch directories of processes that have ended without doing so."""
    for left in filter(is_left, root.glob(f"{PREFIX}*")):
        with suppress(OSError), claimed(left, wait=False):  # in use, or somebody else's
            pass
