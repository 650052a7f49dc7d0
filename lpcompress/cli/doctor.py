"""The command `lpcompress doctor`."""

from lpcompress.cli.options import JsonOption
from lpcompress.cli.terminal import Terminal


def doctor(terminal: Terminal, as_json: JsonOption = False) -> int:
    """Show what this machine has: versions, devices, kernels, the Hub, cache, disk, and what is missing for what.

    Example: lpcompress doctor
    """
    with terminal.importing():
        from lpcompress import diagnosis, presentation

    with terminal.progress() as progress:
        progress("looking at this machine and asking the Hub")
        found = diagnosis.diagnose()
    terminal.show(*([presentation.as_json(found)] if as_json else diagnosis.diagnosis_tables(found)))
    for problem in found.problems:
        terminal.error(f"Error: {problem}")
    return int(bool(found.problems))
