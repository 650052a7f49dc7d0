"""The command `lpcompress inspect`."""

from dataclasses import replace

from lpcompress.cli.missing import refuse_missing
from lpcompress.cli.options import JsonOption, ModelArgument
from lpcompress.cli.terminal import Terminal
from lpcompress.config.origin import Origin


def inspect(terminal: Terminal, model: ModelArgument, origin: Origin, as_json: JsonOption = False) -> None:
    """Describe MODEL: its layers, their share of the parameters, the embedding's spectrum, and any compression.

    Example: lpcompress inspect roberta-base-lpcompress
    """
    refuse_missing(model, origin)
    with terminal.importing():
        from lpcompress import inspection, presentation
        from lpcompress.checkpoints.origins import located

    with terminal.progress() as progress:
        progress(f"loading {model}")
        found = replace(inspection.inspect(located(model, **origin.given())), model=model)
    terminal.show(*([presentation.as_json(found)] if as_json else inspection.inspection_tables(found)))
