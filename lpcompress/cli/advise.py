"""The command `lpcompress advise`."""

from lpcompress.cli.missing import refuse_missing
from lpcompress.cli.options import JsonOption, ModelArgument
from lpcompress.cli.terminal import Terminal
from lpcompress.config.origin import Origin


def advise(terminal: Terminal, model: ModelArgument, origin: Origin, as_json: JsonOption = False) -> None:
    """Suggest three commands for MODEL, with an estimate of what each would give: size, memory, loss, speed.

    Example: lpcompress advise roberta-base
    """
    refuse_missing(model, origin)
    with terminal.importing():
        from lpcompress import presentation
        from lpcompress.checkpoints.origins import located
        from lpcompress.compression import advice

    with terminal.progress() as progress:
        source = located(model, **origin.given())
        found = advice.advise(source, model, progress, origin.given())
    terminal.show(presentation.as_json(found) if as_json else advice.advice_text(found))
