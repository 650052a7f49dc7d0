"""The command `lpcompress densify`."""

from pathlib import Path
from typing import Annotated

import typer

from lpcompress.cli.options import NoVerifyOption, OverwriteOption
from lpcompress.cli.terminal import Terminal
from lpcompress.config.origin import Origin


def densify(
    terminal: Terminal,
    source: Annotated[str, typer.Argument(metavar="DIR", help="Compressed checkpoint: local directory or Hub id.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output directory.")],
    origin: Origin,
    overwrite: OverwriteOption = False,
    no_verify: NoVerifyOption = False,
) -> None:
    """Multiply the factors in DIR back into dense layers and save a checkpoint that loads without lpcompress.

    Example: lpcompress densify roberta-base-lpcompress roberta-base-dense
    """
    with terminal.importing():
        from lpcompress.checkpoints import densifying, files
        from lpcompress.checkpoints.origins import located

    densifying.densify(located(source, **origin.given()), out, overwrite, verify=not no_verify)
    terminal.show(f"{out}: {files.file_bytes(out) / 1e6:,.1f} MB, loads without lpcompress.")
