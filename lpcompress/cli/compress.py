"""The command `lpcompress compress`."""

from pathlib import Path
from typing import Annotated

import typer

from lpcompress.cli.options import RUNNING, ConfigOption, JsonOption, ModelArgument
from lpcompress.cli.terminal import Terminal
from lpcompress.cli.verdict import conclude, refuse_unwritable_reports
from lpcompress.config.plan import Plan
from lpcompress.config.reporting import Reporting
from lpcompress.config.saving import OUTPUT, Saving
from lpcompress.config.scoring import SCORING, Scoring
from lpcompress.errors import PlanError


def compress(
    terminal: Terminal,
    model: ModelArgument,
    *,
    plan: Plan,
    config: ConfigOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output directory. Default: ./NAME-lpcompress, where NAME is the last part of MODEL.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    saving: Saving,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be done to each layer; write nothing.", rich_help_panel=OUTPUT),
    ] = False,
    save_plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the method and ratio of each layer to FILE for --config, and stop.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: JsonOption = False,
    eval_glue: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="GLUE task that MODEL was fine-tuned on; scores it before and after.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    scoring: Scoring,
    reporting: Reporting,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device: cpu, cuda, cuda:1. Default: cpu; with several processes, the launcher assigns it.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
) -> int:
    """Replace layers of MODEL, by default the word embedding, with factored ones and save the result.

    Example: lpcompress compress roberta-base --p 1.0 --ratio 0.28
    """
    plan = Plan.from_yaml(config, plan.given()) if config else plan
    if (scoring.max_drop or scoring.min_recovery or reporting.files) and not eval_glue:
        raise PlanError("max_drop, min_recovery, junit and markdown need scores. Name MODEL's task with --eval-glue.")
    refuse_unwritable_reports(reporting)
    terminal.quiet_libraries()
    from lpcompress import presentation
    from lpcompress.cli import conversion
    from lpcompress.compression import report
    from lpcompress.processes import joined_processes

    with terminal.progress() as progress, joined_processes():
        job = conversion.Conversion(model, plan, scoring, device, progress)
        if dry_run or save_plan:
            layers = job.preview(save_plan, saving.overwrite, saving.max_shard_size)
            terminal.show(presentation.as_json(layers) if as_json else report.preview_table(layers))
            return 0
        record, scores = job.convert(out or _default_out(model), saving, eval_glue)
    if as_json:
        terminal.show(presentation.as_json(record))
    else:
        terminal.show(report.layer_table(record))
    if not scores:
        return 0
    from lpcompress.evaluation.report import glue_table

    if not as_json:
        terminal.show(glue_table(scores))
    return conclude(scores, reporting, terminal)


def _default_out(model: str) -> Path:
    return Path(Path(model).resolve().name + "-lpcompress")
