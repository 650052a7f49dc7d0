"""The command `lpcompress compress`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpcompress.cli.missing import refuse_missing
from lpcompress.cli.options import RUNNING, ConfigOption, JsonOption, ModelArgument, ResumeOption
from lpcompress.cli.push import push_if_passed
from lpcompress.cli.terminal import Terminal
from lpcompress.cli.verdict import conclude, refuse_unwritable_reports
from lpcompress.config.origin import Origin
from lpcompress.config.plan import Plan
from lpcompress.config.publishing import PUBLISHING, Publishing
from lpcompress.config.reporting import Reporting
from lpcompress.config.saving import OUTPUT, Saving
from lpcompress.config.scoring import SCORING, Scoring, seeks_size
from lpcompress.errors import PlanError

if TYPE_CHECKING:
    from lpcompress.cli.conversion import Converted
    from lpcompress.evaluation.evaluation import Evaluation


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
            help="GLUE task that MODEL was fine-tuned on; scores it before and after. With --max-drop or --min-recovery"
            " and no size, finds the smallest size that passes.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    scoring: Scoring,
    reporting: Reporting,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="REPO", help="Push the result to this repository, unless a gate failed.", rich_help_panel=PUBLISHING
        ),
    ] = None,
    how_to_push: Publishing,
    origin: Origin,
    resume: ResumeOption = False,
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
    _refuse_unused(scoring, reporting, eval_glue, how_to_push, push_to_hub)
    _refuse_in_search(seeks_size(plan, scoring), dry_run or bool(save_plan), resume)
    refuse_unwritable_reports(reporting)
    refuse_missing(model, origin)
    with terminal.importing():
        from lpcompress import presentation
        from lpcompress.cli import conversion
        from lpcompress.compression import report
        from lpcompress.processes import joined_processes
        from lpcompress.publishing import refuse_unpublishable

    with terminal.progress() as progress, joined_processes():
        job = conversion.Conversion(model, plan, scoring, device, progress, origin)
        if dry_run or save_plan:
            layers = job.preview(save_plan, saving.overwrite, saving.max_shard_size)
            terminal.show(presentation.as_json(layers) if as_json else report.preview_table(layers))
            return 0
        if push_to_hub:
            refuse_unpublishable(push_to_hub)
        target = out or _default_out(model)
        done = job.convert(target, saving, eval_glue, resume)
    if as_json:
        terminal.show(presentation.as_json(done))
    elif done.report:
        terminal.show(report.layer_table(done.report))
    code = _conclude(done, done.scores, reporting, terminal, tables=not as_json) if done.scores else 0
    if done.report is None:
        terminal.error("No size passes, so no checkpoint was written.")
    elif push_to_hub:
        push_if_passed(terminal, target, push_to_hub, how_to_push, passed=not code)
    return code


def _refuse_unused(
    scoring: Scoring, reporting: Reporting, task: str | None, publishing: Publishing, repo: str | None
) -> None:
    """Raise PlanError for options that would do nothing without another one."""
    if (scoring.max_drop or scoring.min_recovery or reporting.files) and not task:
        raise PlanError("max_drop, min_recovery, junit and markdown need scores. Name MODEL's task with --eval-glue.")
    if publishing.given() and not repo:
        raise PlanError("private and create_pr are for a repository on the Hub. Name it with --push-to-hub.")


def _refuse_in_search(seeks: bool, only_plans: bool, resume: bool) -> None:
    """Raise PlanError if an option does not go with the search for the smallest size, or needs one."""
    if seeks and only_plans:
        raise PlanError("the smallest size that passes is known after scoring only. Leave out dry_run and save_plan.")
    if resume and not seeks:
        raise PlanError("resume is for the search that max_drop or min_recovery asks for if no size is given.")


def _conclude(done: "Converted", scores: "Evaluation", reporting: Reporting, terminal: Terminal, tables: bool) -> int:
    """Show what was tried and scored; return the exit code."""
    from lpcompress.evaluation.report import glue_table
    from lpcompress.evaluation.trials import trials_table

    if tables:
        terminal.show(glue_table(scores))
    if done.tried:
        terminal.aside(trials_table(done.tried))
    return conclude(scores, reporting, terminal)


def _default_out(model: str) -> Path:
    return Path(Path(model).resolve().name + "-lpcompress")
