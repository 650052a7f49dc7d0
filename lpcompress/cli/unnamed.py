"""`eval-glue` without a model: what to score then, or the screen that says what is missing."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from lpcompress.cli.terminal import Terminal

if TYPE_CHECKING:
    from lpcompress.evaluation.surroundings import Surroundings

Asked = tuple[str, str | None, list[str]]  # model, baseline, tasks

EXAMPLE = "textattack/bert-base-uncased-MRPC"
PROTOCOL = {
    'lpcompress eval-glue "textattack/roberta-base-{TASK}" --p 1.0 --ratio 0.28': "the papers' protocol on all tasks"
}
MORE = "The rows of GLUE come from the Hub, or from a directory: --data DIR. All options: lpcompress eval-glue --help"


def from_surroundings(
    terminal: Terminal, baseline: str | None, tasks: list[str] | None, compressing: bool
) -> Asked | None:
    """Return model, baseline and tasks to score; None after a screen that shows what is missing.

    Parameters
    ----------
    terminal : Terminal
    baseline, tasks
        As given on the command line.
    compressing : bool
        Whether a model is to be compressed first, which takes one that is not.
    """
    from lpcompress.evaluation.surroundings import look_around

    found = look_around(Path())
    baseline, tasks = baseline or found.baseline, tasks or ([found.task] if found.task else None)
    if found.checkpoint and baseline and tasks and not compressing:
        terminal.note(f"scoring {found.checkpoint} against {baseline} on {', '.join(tasks)}")
        return str(found.checkpoint), baseline, tasks
    what, commands = _missing(found, baseline, tasks) if found.checkpoint and not compressing else _nothing(compressing)
    lines = [f"  {command}\n      {about}" for command, about in (commands | PROTOCOL).items()]
    terminal.explain("\n".join([what, "", *lines, "", MORE]))
    return None


def _nothing(compressing: bool) -> tuple[str, dict[str, str]]:
    """Return what is missing where no checkpoint was found or asked for, and commands with a line on each."""
    what = "Which model is to be compressed and scored? None is named."
    if not compressing:
        what = "Which model is to be scored? None is named, and there is no compressed checkpoint here."
    return what, {
        f"lpcompress compress {EXAMPLE} --eval-glue mrpc": "compresses a model, and scores it before and after",
        f"lpcompress eval-glue {EXAMPLE} --tasks mrpc": "scores a model as it is",
    }


def _missing(found: "Surroundings", baseline: str | None, tasks: list[str] | None) -> tuple[str, dict[str, str]]:
    """Return what is missing to score the checkpoint that was found, and commands with a line on each."""
    lacks = ["its task, after --tasks"] * (not tasks) + ["what it was made from, after --baseline"] * (not baseline)
    what = f"{found.checkpoint} is a compressed checkpoint. To score it, give {' and '.join(lacks)}."
    if found.made_from and not baseline:
        what += f"\nIts report names {found.made_from}, which is not beside it."
    scored = f"lpcompress eval-glue {shlex.quote(str(found.checkpoint))} --tasks {','.join(tasks or ['mrpc'])}"
    return what, {
        f"{scored} --baseline {shlex.quote(baseline or EXAMPLE)}": "compares it with what it was made from",
        scored: "scores it alone",
    }
