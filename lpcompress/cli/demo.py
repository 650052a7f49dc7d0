"""The command `lpcompress demo`."""

from typing import Annotated

from lpcompress.cli.options import JsonOption, Only
from lpcompress.cli.terminal import Terminal
from lpcompress.config.plan import Plan
from lpcompress.methods import DEFAULT_RATIO


def demo(terminal: Terminal, plan: Annotated[Plan, Only(("ratio",))], as_json: JsonOption = False) -> None:
    """Compress a real model from PyPI with every method, reload it, and compare its sentence vectors.

    Example: lpcompress demo --ratio 0.6
    """
    ratio = plan.ratio or DEFAULT_RATIO
    terminal.quiet_libraries()
    from lpcompress import presentation
    from lpcompress.evaluation import demo

    with terminal.progress() as progress:
        rows = demo.run(ratio, progress)
    terminal.show(presentation.as_json(rows) if as_json else demo.table(rows, ratio))
