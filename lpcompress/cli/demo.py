"""The command `lpcompress demo`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from lpcompress.cli.options import JsonOption, Only
from lpcompress.cli.terminal import Terminal
from lpcompress.config.plan import Plan
from lpcompress.methods import DEFAULT_RATIO


def demo(
    terminal: Terminal,
    plan: Annotated[Plan, Only(("ratio",))],
    picture: Annotated[Path, typer.Option(metavar="FILE", help="PNG file for the picture.")] = Path(
        "lpcompress-demo.png"
    ),
    as_json: JsonOption = False,
) -> None:
    """Compress a real model from PyPI with every method, reload it, and compare its sentence vectors.

    With --json there are the methods only, without sizes and picture.

    Example: lpcompress demo --ratio 0.6
    """
    from lpcompress.atomic import refuse_unwritable

    if not as_json:
        refuse_unwritable(picture)
    ratio = plan.ratio or DEFAULT_RATIO
    with terminal.importing():
        from lpcompress import presentation
        from lpcompress.evaluation import demo, demo_text

    with terminal.progress() as progress:
        rows = demo.run(ratio, progress)
        points = [] if as_json else demo.curve(progress)
    if as_json:
        terminal.show(presentation.as_json(rows))
        return
    drawn = picture if find_spec("matplotlib") else None
    if drawn:
        from lpcompress.evaluation import demo_picture

        demo_picture.draw(points, drawn)
    terminal.show(demo_text.methods(rows, ratio), demo_text.COLUMNS, "")
    terminal.show(demo_text.sizes(points), demo_text.ending(drawn))
