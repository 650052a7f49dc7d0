"""The directory from which a run that was ended is resumed."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lpcompress.atomic import write_atomically
from lpcompress.errors import LpCompressError

ENDING = ".training"  # of the directory's name, beside the output
SETTINGS = "settings.json"


@dataclass(frozen=True)
class State:
    """The directory from which a run that was ended is resumed, beside the output.

    Attributes
    ----------
    directory : Path
    """

    directory: Path

    @classmethod
    def of(cls, target: Path) -> Self:
        """Return the state of the run that writes to `target`."""
        return cls(target.with_name(target.name + ENDING))

    def prepare(self, settings: dict[str, Any], resume: bool, overwrite: bool) -> None:
        """Make the directory, or check that the one that is there is of a run with the same settings.

        Raises
        ------
        LpCompressError
            If it is not, or an ended run is neither to be resumed nor forgotten.
        """
        path, found = self.directory / SETTINGS, self.directory.exists()
        if found and resume:
            kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            changed = [key for key, value in settings.items() if kept.get(key) != value]
            if changed:
                raise LpCompressError(
                    f"{self.directory} is of a run with other settings ({', '.join(changed)}). Repeat that run's"
                    " options, or leave out --resume and pass --overwrite to begin again."
                )
            return
        if found and not overwrite:
            raise LpCompressError(
                f"{self.directory} is of a run that was ended. Pass --resume to go on, or --overwrite to forget it."
            )
        self.forget()
        self.directory.mkdir(parents=True)
        write_atomically(path, json.dumps(settings, indent=2) + "\n")

    def forget(self) -> None:
        """Remove the directory, if there is one."""
        shutil.rmtree(self.directory, ignore_errors=True)
