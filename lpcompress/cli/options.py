"""From the fields of options to options of the command line, and from what was given back to objects."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from lpcompress.cli.terminal import Terminal
from lpcompress.config.options import OneOf, Options, Shown, bounds, default_of, note
from lpcompress.config.saving import OUTPUT

RUNNING = "Running"  # group of the help

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A Hub id or a local directory.")]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout instead of tables.", rich_help_panel=OUTPUT),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output if it exists.", rich_help_panel=OUTPUT)
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="Where to compute: cpu, cuda, cuda:1. Default: a GPU if there is one.", rich_help_panel=RUNNING),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="YAML file of these options; the command line wins.", rich_help_panel="How to fit"
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and results only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print log lines of what is done.")]


@dataclass(frozen=True)
class Only:
    """Beside a parameter's class of options: the fields that the command line has; others keep their defaults."""

    names: tuple[str, ...]


def as_typer_command(command: Callable[..., int | None]) -> Callable[..., None]:
    """Return the function that Typer registers for a command, in which every option is a parameter of its own.

    A command is a plain function; `app` calls this once for each row of its table. What it does, all of it:

    - A parameter that is annotated with a class of options (`plan: Plan`) becomes one option for each field that the
      field's `Shown` puts on the command line. When the command runs, the object is made from the options that were
      given. With `plan: Plan | None` it is None if none was given but those that another object has, too. Two classes
      with a field of the same name share one option.
    - A parameter annotated with `Terminal` is handed the terminal of this run.
    - All other parameters are Typer's and are passed on as they are.
    - `--quiet` and `--verbose`, which stand before the command, are taken after it, too.
    - A number that the command returns is the exit code.

    Parameters
    ----------
    command : callable
    """
    hints = get_type_hints(command, include_extras=True)
    objects = {name: found for name, hint in hints.items() if (found := _Object.of(hint))}
    names = [name for each in objects.values() for name in each.fields]
    shared = {name for name in names if names.count(name) > 1}

    def run(context: typer.Context, **values: Any) -> None:
        terminal: Terminal = context.ensure_object(Terminal)
        terminal.quiet |= values.pop("quiet")
        terminal.verbose |= values.pop("verbose")
        terminal.settle()
        made: dict[str, Any] = {name: each.made(values, shared) for name, each in objects.items()}
        made |= {name: terminal for name, hint in hints.items() if hint is Terminal}
        plain = {name: value for name, value in values.items() if name in hints and name not in made}
        code = command(**plain, **made)
        if code:
            raise typer.Exit(code)

    parameters: dict[str, inspect.Parameter] = {}
    for each in _parameters(command, hints, objects):
        parameters.setdefault(each.name, each)
    _present(run, command, list(parameters.values()))
    return run


def _parameters(
    command: Callable[..., Any], hints: dict[str, Any], objects: dict[str, "_Object"]
) -> Iterator[inspect.Parameter]:
    """Yield the parameters that Typer sees."""
    yield inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    for name, parameter in inspect.signature(command).parameters.items():
        if name in objects:
            yield from (option_of(each, field) for each, field in objects[name].fields.items())
        elif hints[name] is not Terminal:
            yield parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
    for name in ("quiet", "verbose"):
        flag = Annotated[bool, typer.Option(f"--{name}", f"-{name[0]}", hidden=True)]
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=flag)


def _present(run: Any, command: Callable[..., Any], parameters: list[inspect.Parameter]) -> None:
    """Give `run` the name and help of a command, and the parameters that Typer is to see."""
    run.__name__, run.__doc__ = getattr(command, "__name__", "command"), command.__doc__
    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}


@dataclass(frozen=True)
class _Object:
    """A parameter of a command that is made from options."""

    kind: type[Options]
    optional: bool
    fields: dict[str, FieldInfo]

    @classmethod
    def of(cls, hint: Any) -> "_Object | None":
        """Return what a parameter's annotation asks for; None if it names no class of options."""
        hint, only = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
        kinds = [each for each in get_args(hint) or (hint,) if isinstance(each, type) and issubclass(each, Options)]
        if not kinds:
            return None
        wanted = next((each.names for each in only if isinstance(each, Only)), None)
        fields = {
            key: field
            for key, field in kinds[0].model_fields.items()
            if note(field, Shown) and (wanted is None or key in wanted)
        }
        return cls(kinds[0], NoneType in get_args(hint), fields)

    def made(self, values: dict[str, Any], shared: set[str]) -> Options | None:
        """Return the object; None if nothing asks for it."""
        given = {name: values[name] for name in self.fields if values[name] not in ([], None)}
        given = {name: value for name, value in given.items() if value is not False}
        if self.optional and not given.keys() - shared:
            return None
        return self.kind(**{name: read(value, self.fields[name]) for name, value in given.items()})


def option_of(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the parameter, annotated for Typer, that stands for a field on the command line.

    Parameters
    ----------
    name : str
    field : FieldInfo
        With its `Shown`.
    """
    shown, words = note(field, Shown), note(field, OneOf)
    limits, default = bounds(field), default_of(field)
    switch = field.annotation is bool
    text = f"{field.description}{', ' * bool(limits)}{limits}." + f" Default: {default}." * bool(default and not switch)
    option = typer.Option(
        "--" + name.replace("_", "-"),
        help=text,
        metavar=shown.metavar or (words and words.metavar),
        rich_help_panel=shown.panel,
        show_default=False,
        autocompletion=(lambda: list(words.words)) if words else None,
    )
    kind, absent = (bool, False) if switch else (_typed(field) | None, None)
    annotation = Annotated[kind, option]  # type: ignore[valid-type]  # made while running
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=absent, annotation=annotation)


def _typed(field: FieldInfo) -> Any:
    """Return the type of what the command line gives for a field."""
    if note(field, Shown).text:
        return str
    kinds = [each for each in get_args(field.annotation) or (field.annotation,) if each is not NoneType]
    kind = field.annotation if get_origin(field.annotation) in (tuple, dict) else kinds[0]
    return list[str] if get_origin(kind) in (tuple, dict) else kind


def read(value: Any, field: FieldInfo) -> Any:
    """Return a value of the command line as a field takes it: NAME=VALUE as a mapping."""
    return pairs(value) if get_origin(field.annotation) is dict else value


def words(texts: Sequence[str] | None) -> list[str]:
    """Return the words of a repeatable option, each of which may be a list with commas.

    Examples
    --------
    >>> words(["svd, lp", "messi"])
    ['svd', 'lp', 'messi']
    """
    return [word.strip() for text in texts or () for word in text.split(",") if word.strip()]


def pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """Return what was given as NAME=VALUE; a value without a name is under "".

    Examples
    --------
    >>> pairs(["rte=3,1"])
    {'rte': '3', '': '1'}
    """
    return {
        name: value for name, _, value in (("=" * ("=" not in word) + word).partition("=") for word in words(texts))
    }
