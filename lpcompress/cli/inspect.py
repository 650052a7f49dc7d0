"""The command `lpcompress inspect`."""

from lpcompress.cli.options import JsonOption, ModelArgument
from lpcompress.cli.terminal import Terminal


def inspect(terminal: Terminal, model: ModelArgument, as_json: JsonOption = False) -> None:
    """Describe MODEL: its layers, their share of the parameters, the embedding's spectrum, and any compression.

    Example: lpcompress inspect roberta-base-lpcompress
    """
    terminal.quiet_libraries()
    from lpcompress import inspection, presentation

    found = inspection.inspect(model)
    terminal.show(*([presentation.as_json(found)] if as_json else inspection.inspection_tables(found)))
