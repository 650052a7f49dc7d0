"""The command `lpcompress export`."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lpcompress.cli.options import JsonOption, OverwriteOption
from lpcompress.cli.terminal import Terminal
from lpcompress.config.origin import Origin


class Format(StrEnum):
    """A format to export to."""

    onnx = "onnx"


def export(
    terminal: Terminal,
    source: Annotated[str, typer.Argument(metavar="DIR", help="Compressed checkpoint: local directory or Hub id.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output directory.")],
    origin: Origin,
    format: Annotated[Format, typer.Option("--format", help="Format of the model.")] = Format.onnx,
    int8: Annotated[
        bool, typer.Option("--int8", help="Make products of linear layers int8: faster, less exact.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the model in DIR as OUT/model.onnx with its tokenizer and config, for ONNX Runtime.

    Codes stay small integers in the file. It is compared with the model in torch before OUT is put in place. For any
    other runtime or exporter, use lpcompress densify: it gives a plain checkpoint.

    Example: lpcompress export minilm-lpcompress minilm-onnx --format onnx --int8
    """
    with terminal.importing():
        from lpcompress import presentation
        from lpcompress.checkpoints.origins import located
        from lpcompress.exporting import export as exporting

    with terminal.progress() as progress:
        made = exporting.export(located(source, **origin.given()), out, int8, overwrite, progress)
    done = replace(made, model=source)
    terminal.show(presentation.as_json(done) if as_json else exporting.export_table(done))
