"""Guess what `eval-glue` without a model is to score: the compressed checkpoint here, against what it was made from."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpcompress.filenames import CONFIG, RECORD_FILE, REPORT_FILE
from lpcompress.glue.tasks import TASKS, squeezed
from lpcompress.presentation import is_local


@dataclass(frozen=True)
class Surroundings:
    """A compressed checkpoint, and what its files tell; None stands for what they do not.

    Attributes
    ----------
    checkpoint : Path or None
    made_from : str or None
        The model that its report names.
    baseline : str or None
        The same if it can be loaded: a Hub id, or a directory that is still there.
    task : str or None
        Key of the task that it was fine-tuned on.
    """

    checkpoint: Path | None = None
    made_from: str | None = None
    baseline: str | None = None
    task: str | None = None


def look_around(here: Path) -> Surroundings:
    """Return the checkpoint in a directory, or the newest of those in the folders of that directory.

    Parameters
    ----------
    here : Path
    """
    found = [here] if _is_checkpoint(here) else [each for each in sorted(here.iterdir()) if _is_checkpoint(each)]
    if not found:
        return Surroundings()
    checkpoint = max(found, key=lambda each: (each / REPORT_FILE).stat().st_mtime)
    report = _object(checkpoint / REPORT_FILE)
    made_from = report.get("model") if isinstance(report.get("model"), str) else None
    whole = made_from and not report.get("origin")  # of another revision or a folder, nothing here can be loaded
    baseline = _baseline(checkpoint, here, made_from) if made_from and whole else None
    return Surroundings(checkpoint, made_from, baseline, _task(checkpoint, baseline, made_from))


def _is_checkpoint(directory: Path) -> bool:
    hidden = directory.name.startswith(".")  # one that is being written
    return not hidden and (directory / REPORT_FILE).is_file() and (directory / CONFIG).is_file()


def _baseline(checkpoint: Path, here: Path, made_from: str) -> str | None:
    """Return what a checkpoint was made from; of a local path the report keeps only the last part."""
    if not made_from.startswith("./"):
        return made_from if not is_local(made_from) or (here / made_from / CONFIG).is_file() else None
    places = [checkpoint / ".." / made_from, here / made_from]
    found = (place for place in places if (place / CONFIG).is_file() and not place.samefile(checkpoint))
    return next((os.path.normpath(place) for place in found), None)


def _task(checkpoint: Path, baseline: str | None, made_from: str | None) -> str | None:
    """Return the task that scores, a record of fine-tuning, a config or at last a name tells."""
    scored = _object(checkpoint / REPORT_FILE).get("glue")
    told: list[Any] = (
        list(scored["tasks"]) if isinstance(scored, dict) and isinstance(scored.get("tasks"), dict) else []
    )
    for directory in (checkpoint, *([Path(baseline)] if baseline else [])):
        told.append(_object(directory / RECORD_FILE).get("task"))
        told.append(_object(directory / CONFIG).get("finetuning_task"))  # of the examples of transformers
    keys = [squeezed(str(each).rpartition(":")[2]) for each in told if each]
    for name in (made_from or "", checkpoint.resolve().name):
        keys += [squeezed(part) for part in re.split(r"[/_. ]|-(?!\d|b\b)", name, flags=re.IGNORECASE)]
    return next((key for key in keys if key in TASKS), None)


def _object(file: Path) -> dict[str, Any]:
    """Return a JSON object, empty if it cannot be read: guesses need no error of their own."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
