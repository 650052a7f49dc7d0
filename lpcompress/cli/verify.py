"""The command `lpcompress verify`."""

from pathlib import Path
from typing import Annotated

import typer

from lpcompress.cli.options import JsonOption
from lpcompress.cli.terminal import Terminal


def verify(
    terminal: Terminal,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a compressed checkpoint.")],
    as_json: JsonOption = False,
) -> int:
    """Compare every file and tensor in DIR with the digests that were written with it; exit with 1 if one differs.

    Digests find damage and edits, not forgery: docs/signing.md shows how to sign a checkpoint.

    Example: lpcompress verify roberta-base-lpcompress
    """
    with terminal.importing():
        from lpcompress import presentation
        from lpcompress.compression import verification

    found = verification.verify(directory)
    terminal.show(presentation.as_json(found) if as_json else verification.verification_table(found))
    if not found.sound:
        names = presentation.short_list([str(damage) for damage in found.damaged])
        terminal.error(f"Error: {directory} is not as it was written. {names}.")
    return int(not found.sound)
