"""The command `lpcompress sweep`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from lpcompress.cli.options import DeviceOption, JsonOption, Only, OverwriteOption, ResumeOption, words
from lpcompress.cli.terminal import Terminal
from lpcompress.config.origin import Origin
from lpcompress.config.plan import FIT, SIZE, Plan
from lpcompress.config.saving import OUTPUT
from lpcompress.config.scoring import SCORING, Scoring
from lpcompress.config.sweeping import RATIOS, plans_of_sweep
from lpcompress.config.sweeping import SIZES as TARGETS

SHARED = ("layers", "p", "clusters", "row_weights", "exponent", "calibration", "seed")
SCORED = ("data", "limit", "batch_size", "label_map", "primary", "seed")
PICTURES = ("sweep.svg", "sweep.png")


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def sweep(
    terminal: Terminal,
    model: Annotated[
        str, typer.Argument(metavar="MODEL|TEMPLATE", help="Hub id or directory; with --tasks also a template.")
    ],
    *,
    ratios: Annotated[
        list[str] | None,
        typer.Option(
            metavar="0.5,0.9",
            help=f"Shares of each layer's stored bytes to REMOVE. Default for the word embedding: {_listed(RATIOS)}.",
            rich_help_panel=SIZE,
        ),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="0.1,0.05",
            help=f"Shares of the whole model's bytes to KEEP. Default for other layers: {_listed(TARGETS)}.",
            rich_help_panel=SIZE,
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(metavar="coded,svd,...", help="Methods to compare. Default: coded.", rich_help_panel=FIT),
    ] = None,
    plan: Annotated[Plan | None, Only(SHARED)],
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="all|mrpc,cola,...", help="Tasks to score. Default: none, errors only.", rich_help_panel=SCORING
        ),
    ] = None,
    scoring: Annotated[Scoring, Only(SCORED)],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Directory for sweep.json and the picture.", rich_help_panel=OUTPUT),
    ],
    overwrite: OverwriteOption = False,
    origin: Origin,
    resume: ResumeOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the error of MODEL, and with --tasks the points lost, against bytes.

    Example: lpcompress sweep roberta-base --ratios 0.8,0.9,0.95 --methods coded,svd --out sweep
    """
    plans = plans_of_sweep(plan, words(methods), words(ratios), words(sizes))
    draws = find_spec("matplotlib") is not None
    if not draws:
        terminal.note("Warning: without matplotlib there will be no picture. To get it: pip install lpcompress[plots]")
    from lpcompress.atomic import refuse_unwritable, write_atomically

    targets = [out / name for name in ("sweep.json", *PICTURES[: 2 * draws])]
    for target in targets:
        refuse_unwritable(target, overwrite or resume)
    with terminal.importing():
        from lpcompress import presentation
        from lpcompress.evaluation import sweep as sweeping
        from lpcompress.evaluation.sweep_points import sweep_table
        from lpcompress.pages.chart import chart
        from lpcompress.pages.picture import draw
        from lpcompress.processes import joined_processes

    with terminal.progress() as progress, joined_processes():
        found = sweeping.sweep(
            model, words(tasks), plans, scoring, out, origin=origin, resume=resume, device=device, progress=progress
        )
    if terminal.prints:
        write_atomically(targets[0], presentation.as_json(found) + "\n", overwrite=True)
        for target in targets[1:]:
            write_atomically(target, draw(found.document(), target.suffix[1:]), overwrite=True)
    terminal.show(presentation.as_json(found) if as_json else sweep_table(found))
    if find_spec("plotille"):
        terminal.sketch(lambda columns: chart(found.document(), columns))
    for target in targets:
        terminal.note(f"written: {target}")
