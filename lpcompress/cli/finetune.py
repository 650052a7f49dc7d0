"""The command `lpcompress finetune`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lpcompress.cli.options import (
    RUNNING,
    DeviceOption,
    JsonOption,
    ModelArgument,
    NoVerifyOption,
    Only,
    OverwriteOption,
)
from lpcompress.cli.terminal import Terminal
from lpcompress.config.origin import Origin
from lpcompress.config.recipe import DISTILLATION, TRAINING, Recipe
from lpcompress.config.saving import OUTPUT
from lpcompress.config.scoring import Scoring


def finetune(
    terminal: Terminal,
    model: ModelArgument,
    *,
    task: Annotated[str, typer.Option(help="GLUE task to train on.", rich_help_panel=TRAINING)],
    out: Annotated[Path, typer.Option(help="Output directory.", rich_help_panel=OUTPUT)],
    distill: Annotated[
        str | None,
        typer.Option(
            metavar="TEACHER",
            help="Model, usually the dense one, whose logits and hidden states MODEL learns to match.",
            rich_help_panel=DISTILLATION,
        ),
    ] = None,
    recipe: Recipe,
    scoring: Annotated[Scoring, Only(("data", "limit", "label_map"))],
    origin: Origin,
    device: DeviceOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an interrupted run.", rich_help_panel=RUNNING)
    ] = False,
    overwrite: OverwriteOption = False,
    no_verify: NoVerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train MODEL, dense or compressed, on a GLUE task and save the result; a missing head is added.

    Example: lpcompress finetune roberta-mrpc-lpcompress --task mrpc --out tuned --distill roberta-mrpc
    """
    with terminal.importing():
        from lpcompress import presentation
        from lpcompress.finetuning import report, run
        from lpcompress.processes import joined_processes

    where: dict[str, Any] = {"distill": distill, "device": device, "resume": resume, "overwrite": overwrite}
    where |= {"verify": not no_verify, "origin": origin}
    with terminal.progress() as progress, joined_processes():
        record = run.tune(model, task, out, recipe, scoring, progress=progress, **where)
    terminal.show(presentation.as_json(record) if as_json else report.finetuning_table(record))
