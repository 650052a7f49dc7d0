"""`lpcompress compress`."""

from pathlib import Path
from typing import Annotated

import typer

from lpcompress.cli.options import RUNNING, ConfigOption, JsonOption, ModelArgument
from lpcompress.cli.terminal import Terminal
from lpcompress.config.plan import Plan
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
            help="Output directory. Default: MODEL's last part + '-lpcompress', here.", rich_help_panel=OUTPUT
        ),
    ] = None,
    saving: Saving,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done; write nothing.", rich_help_panel=OUTPUT),
    ] = False,
    save_plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what would be done to every layer, for --config; no more.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: JsonOption = False,
    eval_glue: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="The GLUE task that MODEL was fine-tuned on: score it before and after.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    scoring: Scoring,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where to compute: cpu, cuda, cuda:1. Default: cpu; in several processes, their launcher's.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
) -> int:
    """Replace layers of MODEL, by default the word embedding, by factored ones and save the result.

    Example: lpcompress compress roberta-base --p 1.0 --ratio 0.28
    """
    plan = Plan.from_yaml(config, plan.given()) if config else plan
    if (scoring.max_drop or scoring.min_recovery) and not eval_glue:
        raise PlanError("max_drop and min_recovery need scores. Name MODEL's task with --eval-glue.")
    terminal.quiet_libraries()
    from lpcompress import presentation
    from lpcompress.cli import conversion
    from lpcompress.compression import report
    from lpcompress.processes import joined_processes

    with terminal.progress() as progress, joined_processes():
        job = conversion.Conversion(model, plan, scoring, device, progress)
        if dry_run or save_plan:
            layers = job.foresee(save_plan, saving.overwrite)
            terminal.show(presentation.as_json(layers) if as_json else report.preview_table(layers))
            return 0
        record, scores = job.convert(out or _default_out(model), saving, eval_glue)
    if as_json:
        terminal.show(presentation.as_json(record))
    else:
        terminal.show(report.layer_table(record))
    if not scores:
        return 0
    from lpcompress.cli.evaluate import verdict
    from lpcompress.evaluation.report import glue_table

    if not as_json:
        terminal.show(glue_table(scores))
    return verdict(scores, terminal)


def _default_out(model: str) -> Path:
    return Path(Path(model).resolve().name + "-lpcompress")
