"""Results of finished cells, one JSON line each, so that an interrupted run goes on where it was."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpcompress.atomic import write_atomically


@dataclass(frozen=True)
class Cell:
    """What one result belongs to; `size` is None for rivals with a size of their own."""

    scope: str
    rival: str
    size: float | None
    task: str
    arch: str
    limit: int


class Cells:
    """The finished cells of a file.

    Parameters
    ----------
    path : Path
        Created with the first cell.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.found: dict[Cell, dict[str, Any]] = {}
        for line in lines:
            record = json.loads(line)
            self.found[Cell(**record["cell"])] = record["found"]

    def keep(self, cell: Cell, found: dict[str, Any]) -> None:
        """Add a result to the file."""
        self.found[cell] = found
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(cell, found))

    def forget(self, chosen: Callable[[Cell], bool]) -> None:
        """Remove chosen results from the file, to be measured again."""
        self.found = {cell: found for cell, found in self.found.items() if not chosen(cell)}
        write_atomically(self._path, "".join(_line(cell, found) for cell, found in self.found.items()))


def _line(cell: Cell, found: dict[str, Any]) -> str:
    return json.dumps({"cell": asdict(cell), "found": found}) + "\n"
