"""The command `lpcompress eval-glue`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lpcompress.cli.options import ConfigOption, DeviceOption, JsonOption, ResumeOption, words
from lpcompress.cli.terminal import Terminal
from lpcompress.cli.unnamed import from_surroundings
from lpcompress.cli.verdict import conclude, refuse_unwritable_reports
from lpcompress.config.origin import Origin
from lpcompress.config.plan import FIT, Plan
from lpcompress.config.reporting import Reporting
from lpcompress.config.saving import OUTPUT
from lpcompress.config.scoring import SCORING, Scoring, wishes

TemplateArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL|TEMPLATE]",
        help="Hub id or directory, template with {task}, {Task} or {TASK}, or YAML file that maps tasks to models."
        " Default: the compressed checkpoint here, against what it was made from.",
        show_default=False,
    ),
]


def eval_glue(
    terminal: Terminal,
    model: TemplateArgument = None,
    *,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="all|mrpc,cola,...",
            help="Tasks to score. Default: all nine; ax only if named.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|TEMPLATE", help="Model from which a compressed MODEL was made.", rich_help_panel=SCORING
        ),
    ] = None,
    plan: Plan | None,
    methods: Annotated[
        list[str] | None,
        typer.Option(metavar="svd,lp,...", help="Compare several methods in one run.", rich_help_panel=FIT),
    ] = None,
    config: ConfigOption = None,
    scoring: Scoring,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file for the results; finished parts are stored next to it.", rich_help_panel=OUTPUT),
    ] = None,
    reporting: Reporting,
    origin: Origin,
    resume: ResumeOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Score MODEL on GLUE without fine-tuning: alone, before and after compression, or against --baseline.

    With --ratio or another compression option, each task's model is compressed in memory.

    Example: lpcompress eval-glue "textattack/roberta-base-{TASK}" --p 1.0 --ratio 0.28
    """
    compared = words(methods)
    plan = _with_file(plan, config, scoring, compared) if config else plan
    plans, scoring = wishes(plan, scoring, compared, {})  # invalid options are refused before the long imports
    refuse_unwritable_reports(reporting)
    if model is None:
        asked = from_surroundings(terminal, baseline, words(tasks) or None, compressing=bool(plans))
        if asked is None:
            return 2
        model, baseline, tasks = asked
    with terminal.importing():
        from lpcompress import presentation
        from lpcompress.evaluation import benchmark, report
        from lpcompress.processes import joined_processes

    where: dict[str, Any] = {"baseline": baseline, "out": out, "resume": resume, "device": device, "origin": origin}
    with terminal.progress() as progress, joined_processes():
        found = benchmark.evaluate(model, tasks or "all", plans, scoring, progress=progress, **where)
    terminal.show(presentation.as_json(found) if as_json else report.glue_table(found))
    return conclude(found, reporting, terminal)


def _with_file(plan: Plan | None, config: Path, scoring: Scoring, compared: list[str]) -> Plan:
    """Return a file's plan, overridden by the command line; --methods replaces the file's method."""
    seed = {"seed": scoring.seed} if "seed" in scoring.model_fields_set else {}
    given = seed | (plan.given() if plan else {})
    merged = Plan.from_yaml(config, given).given()
    if compared and "method" not in given:
        merged.pop("method", None)
    return Plan(**merged)
