"""The command `lpcompress report`."""

from pathlib import Path
from typing import Annotated

import typer

from lpcompress.cli.options import OverwriteOption
from lpcompress.cli.terminal import Terminal


def report(
    terminal: Terminal,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="JSON results: lpcompress.json or its directory, eval-glue's, finetuning.json, inspect's, sweep.json.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory for report.html and report.md.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Make one HTML page, which needs no network, and one Markdown page from JSON results.

    Example: lpcompress report scores.json roberta-base-lpcompress --out report
    """
    from lpcompress.atomic import refuse_unwritable, write_atomically
    from lpcompress.pages import documents, rendering

    targets = {out / "report.html": rendering.as_html, out / "report.md": rendering.as_markdown}
    sections = documents.read_sections(files)
    for target in targets:
        refuse_unwritable(target, overwrite)
    for target, render in targets.items():
        write_atomically(target, render(sections), overwrite)
    terminal.show(*(section.headline for section in sections), *(str(target) for target in targets))
