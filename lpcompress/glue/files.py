"""Read GLUE tables from disk: parquet as on the Hub, TSV as in the original archive, jsonl."""

import itertools
import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from lpcompress.errors import LpCompressError
from lpcompress.glue.tasks import Task, squeezed

Columns = dict[str, list[Any]]
LABEL = "label"
ARCHIVE_FOLDERS = {"ax": "diagnostic"}  # folder names other than GLUE's spelling of a task
ARCHIVE_FILES = {  # (task, split) -> name of its TSV in the original archive
    ("mnli", "validation_matched"): "dev_matched",
    ("mnli", "validation_mismatched"): "dev_mismatched",
    ("ax", "test"): "diagnostic",
}
ARCHIVE_COLUMNS = {  # task -> the archive's column names -> the Hub's, where they differ
    "mrpc": {"#1 String": "sentence1", "#2 String": "sentence2", "Quality": LABEL},
    "stsb": {"score": LABEL},
    "qqp": {"is_duplicate": LABEL},
    "mnli": {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": LABEL},
    "ax": {"sentence1": "premise", "sentence2": "hypothesis"},
}
COLA_COLUMNS = ["source", LABEL, "star", "sentence"]  # the archive's CoLA has no header
SHARD = "-[0-9]*-of-[0-9]*"  # suffix of the Hub's parquet files


def find(root: Path, task: Task, split: str) -> list[Path]:
    """Return the files of a split in a GLUE directory; several only for sharded parquet.

    Raises
    ------
    LpCompressError
        If there are none; the message lists the names that were tried.
    """
    if not root.is_dir():
        raise LpCompressError(f"--data must be 'hub' or a directory with GLUE. There is no directory {root}.")
    archived = ARCHIVE_FILES.get((task.key, split), "dev" if split == "validation" else split)
    folders = [folder for folder in sorted(root.iterdir()) if _belongs(folder, task)]
    for suffix, folder, stem in itertools.product(READERS, folders, (split, split + SHARD, archived)):
        if found := sorted(folder.glob(f"{stem}{suffix}")):
            return found
    wanted = [split + suffix for suffix in READERS] + [f"{archived}.tsv"] * (archived != split)
    raise LpCompressError(
        f"{root} must hold the rows of {task.key}, {split}, in {task.key}/{' or '.join(wanted)}. It has none."
    )


def read(paths: Iterable[Path], task: Task) -> Columns:
    """Return the columns of a split, with labels as stored in the files (names or numbers).

    Raises
    ------
    LpCompressError
        If a file cannot be read in the format of its suffix.
    """
    parts = []
    for path in paths:
        try:
            parts.append(READERS[path.suffix](path, task))
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise LpCompressError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from error
    shared = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: [value for part in parts for value in part[name]] for name in shared}


def _belongs(folder: Path, task: Task) -> bool:
    """Return whether a folder is that of a task: `sst2` or, as in the archive, `SST-2`."""
    return folder.is_dir() and squeezed(folder.name) in (task.key, ARCHIVE_FOLDERS.get(task.key))


def _parquet(path: Path, task: Task) -> Columns:
    """Read a parquet file; class numbers become names if the file defines names."""
    table = pq.read_table(path)
    columns: Columns = {name: table[name].to_pylist() for name in table.column_names if name in (*task.columns, LABEL)}
    feature = datasets.Features.from_arrow_schema(table.schema).get(LABEL)
    if isinstance(feature, datasets.ClassLabel) and LABEL in columns:
        columns[LABEL] = [feature.int2str(value) if value not in (None, -1) else value for value in columns[LABEL]]
    return columns


def _tsv(path: Path, task: Task) -> Columns:
    """Read a TSV in which quotes are ordinary characters, as in GLUE's archive.

    Rows with too few fields are left out, as on the Hub, with a warning.
    """
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        rows = [line.rstrip("\r\n").split("\t") for line in file if line.strip()]
    if not rows:
        return {}
    headless = task.key == "cola" and "sentence" not in rows[0]
    header = COLA_COLUMNS if headless else rows.pop(0)
    whole = [row for row in rows if len(row) >= len(header)]
    if len(whole) < len(rows):
        warnings.warn(f"{path}: {len(rows) - len(whole)} rows have too few fields and were left out.", stacklevel=2)
    names = [_hub_name(name, header, task) for name in header]
    wanted = (*task.columns, LABEL)
    return {name: [row[i] for row in whole] for i, name in enumerate(names) if name in wanted}


def _hub_name(name: str, header: list[str], task: Task) -> str:
    """Return the Hub's name of an archive column; a file that already has the Hub's names keeps them."""
    new = ARCHIVE_COLUMNS.get(task.key, {}).get(name, name)
    return name if new in header else new


def _jsonl(path: Path, task: Task) -> Columns:
    """Read a file with one JSON object per line."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        rows = [_object(line, number) for number, line in enumerate(file, 1) if line.strip()]
    names = [name for name in (*task.columns, LABEL) if any(name in row for row in rows)]
    return {name: [row.get(name) for row in rows] for name in names}


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error.msg}.") from None
    if not isinstance(row, dict):
        raise ValueError(f'line {number}: must be an object such as {{"sentence": ..., "label": ...}}.')
    return row


READERS: dict[str, Callable[[Path, Task], Columns]] = {".parquet": _parquet, ".tsv": _tsv, ".jsonl": _jsonl}
