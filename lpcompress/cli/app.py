"""The command-line application: table of commands, global options and entry point."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, NoReturn

import typer

from lpcompress.cli import (
    advise,
    compress,
    demo,
    densify,
    doctor,
    evaluate,
    exits,
    export,
    finetune,
    inspect,
    push,
    report,
    sweep,
    verify,
)
from lpcompress.cli.options import QuietOption, VerboseOption, as_typer_command
from lpcompress.cli.terminal import DEBUG, Terminal
from lpcompress.version import __version__


@dataclass(frozen=True)
class Command:
    """A row of the table of commands.

    Attributes
    ----------
    name : str
        Name on the command line.
    run : callable
        A plain function; its docstring is the help text. See `options.as_typer_command`.
    """

    name: str
    run: Callable[..., int | None]


COMMANDS = (
    Command("advise", advise.advise),
    Command("compress", compress.compress),
    Command("eval-glue", evaluate.eval_glue),
    Command("sweep", sweep.sweep),
    Command("finetune", finetune.finetune),
    Command("inspect", inspect.inspect),
    Command("densify", densify.densify),
    Command("export", export.export),
    Command("verify", verify.verify),
    Command("report", report.report),
    Command("push", push.push),
    Command("doctor", doctor.doctor),
    Command("demo", demo.demo),
)


def application(commands: Sequence[Command]) -> typer.Typer:
    """Return the Typer application with these commands."""
    app = typer.Typer(
        name="lpcompress",
        callback=_global_options,
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # `exits` prints known errors on one line; others keep their traceback
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in commands:
        app.command(command.name)(as_typer_command(command.run))
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _global_options(
    context: typer.Context,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    debug: Annotated[bool, typer.Option("--debug", help=f"Show the traceback of an error (also: {DEBUG}=1).")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make Hugging Face checkpoints smaller by factoring their layers, without data.

    The result is a checkpoint that plain `from_pretrained` loads after `import lpcompress`.
    """
    terminal = context.ensure_object(Terminal)
    terminal.quiet, terminal.verbose, terminal.debug = quiet, verbose, debug or terminal.debug


def main() -> NoReturn:
    """Run the command line and exit with its exit code."""
    exits.run(application(COMMANDS), Terminal.of_process())
