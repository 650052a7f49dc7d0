"""The directory that an interrupted run is resumed from."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lpcompress.atomic import beside, claimed, write_atomically
from lpcompress.errors import LpCompressError

ENDING = ".training"  # suffix of the directory's name
SETTINGS = "settings.json"


@dataclass(frozen=True)
class State:
    """The directory that an interrupted run is resumed from, beside the output.

    Attributes
    ----------
    directory : Path
    """

    directory: Path

    @classmethod
    def of(cls, target: Path) -> Self:
        """Return the state of the run that writes to `target`."""
        return cls(target.with_name(target.name + ENDING))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other runs from the directory while the block runs.

        Raises
        ------
        LpCompressError
            If another run uses it, or its parent cannot be written to.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(claimed(beside(self.directory), wait=False))
            except BlockingIOError as error:
                raise LpCompressError(
                    f"{self.directory} is in use by another run. Wait for it, or choose another output directory."
                ) from error
            except OSError as error:
                raise LpCompressError(f"{self.directory} cannot be written: {error.strerror}.") from error
            yield

    def prepare(self, settings: dict[str, Any], resume: bool, overwrite: bool) -> None:
        """Create the directory, or check that an existing one belongs to a run with the same settings.

        Raises
        ------
        LpCompressError
            If it does not, or it exists and neither `resume` nor `overwrite` is set, or `overwrite` is set and it is
            not the directory of a run.
        """
        path, found = self.directory / SETTINGS, self.directory.exists()
        if found and resume:
            kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            changed = [key for key, value in settings.items() if kept.get(key) != value]
            if changed:
                raise LpCompressError(
                    f"{self.directory} belongs to a run with other settings ({', '.join(changed)}). Repeat that run's"
                    " options, or pass --overwrite instead of --resume to start again."
                )
            return
        if found and not overwrite:
            raise LpCompressError(
                f"{self.directory} belongs to an interrupted run. Pass --resume to continue it, or --overwrite to"
                " discard it."
            )
        if found and not (path.is_file() or not any(self.directory.iterdir())):
            raise LpCompressError(
                f"{self.directory} must be the directory of an interrupted run to be replaced. It has no {SETTINGS}."
                " Move it elsewhere, or choose another output directory."
            )
        self.forget()
        self.directory.mkdir(parents=True)
        write_atomically(path, json.dumps(settings, indent=2) + "\n")

    def forget(self) -> None:
        """Delete the directory if it exists."""
        shutil.rmtree(self.directory, ignore_errors=True)
