"""Turn the fields of option classes into command-line options, and the given values back into objects."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from lpcompress.cli.terminal import Terminal
from lpcompress.config.options import OneOf, Options, Shown, bounds, default_of, note
from lpcompress.config.saving import OUTPUT

RUNNING = "Running"  # group of the help

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Hub id or local directory.")]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document to stdout instead of tables.", rich_help_panel=OUTPUT),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output if it exists.", rich_help_panel=OUTPUT)
]
NoVerifyOption = Annotated[
    bool,
    typer.Option(
        "--no-verify",
        help="Do not load the result again to compare it with the model in memory.",
        rich_help_panel=OUTPUT,
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Resume an interrupted run with the same --out.", rich_help_panel=RUNNING)
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="Device: cpu, cuda, cuda:1. Default: a GPU if there is one.", rich_help_panel=RUNNING),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="YAML file of these options; the command line overrides it.", rich_help_panel="How to fit"
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and results only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print log lines as well.")]


@dataclass(frozen=True)
class Only:
    """Annotation of an options parameter: the fields to offer on the command line; the others keep their defaults."""

    names: tuple[str, ...]


def as_typer_command(command: Callable[..., int | None]) -> Callable[..., None]:
    """Return the function that Typer registers for a command, with one parameter for each option.

    A command is a plain function; `app` calls this once for each row of its table. It does the following:

    - A parameter annotated with an options class (`plan: Plan`) becomes one option for each field annotated with
      `Shown`. When the command runs, the object is made from the options that were given. With `plan: Plan | None` it
      is None if no option of its own was given; options that it shares with another object do not count. Two classes
      with a field of the same name share one option.
    - A parameter annotated with `Terminal` receives the terminal of this run.
    - All other parameters belong to Typer and are passed on unchanged.
    - `--quiet` and `--verbose`, which normally precede the command, are accepted after it as well.
    - A number that the command returns becomes the exit code.

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
        terminal.set_log_level()
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
    """Give `run` the name and help of a command, and the parameters for Typer."""
    run.__name__, run.__doc__ = getattr(command, "__name__", "command"), command.__doc__
    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}


@dataclass(frozen=True)
class _Object:
    """A command's parameter whose value is made from options."""

    kind: type[Options]
    optional: bool
    fields: dict[str, FieldInfo]

    @classmethod
    def of(cls, hint: Any) -> "_Object | None":
        """Return the object described by a parameter's annotation, or None if it names no options class."""
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
        """Return the options object, or None if it is optional and none of its own options was given."""
        given = {name: values[name] for name in self.fields if values[name] not in ([], None)}
        given = {name: value for name, value in given.items() if value is not False}
        if self.optional and not given.keys() - shared:
            return None
        return self.kind(**{name: read(value, self.fields[name]) for name, value in given.items()})


def option_of(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the command-line parameter of a field, annotated for Typer.

    Parameters
    ----------
    name : str
    field : FieldInfo
        Annotated with `Shown`.
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
        autocompletion=(lambda: list(zip_longest(words.words, words.about, fillvalue=""))) if words else None,
    )
    kind, absent = (bool, False) if switch else (_typed(field) | None, None)
    annotation = Annotated[kind, option]  # type: ignore[valid-type]  # made at run time
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=absent, annotation=annotation)


def _typed(field: FieldInfo) -> Any:
    """Return the type in which the command line passes a field's value."""
    if note(field, Shown).text:
        return str
    kinds = [each for each in get_args(field.annotation) or (field.annotation,) if each is not NoneType]
    kind = field.annotation if get_origin(field.annotation) in (tuple, dict) else kinds[0]
    return list[str] if get_origin(kind) in (tuple, dict) else kind


def read(value: Any, field: FieldInfo) -> Any:
    """Convert a command-line value for its field: NAME=VALUE texts become a mapping."""
    return pairs(value) if get_origin(field.annotation) is dict else value


def words(texts: Sequence[str] | None) -> list[str]:
    """Split the values of a repeatable option, each of which may be a comma-separated list.

    Examples
    --------
    >>> words(["svd, lp", "messi"])
    ['svd', 'lp', 'messi']
    """
    return [word.strip() for text in texts or () for word in text.split(",") if word.strip()]


def pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """Parse NAME=VALUE texts into a mapping; a value without a name gets the key "".

    Examples
    --------
    >>> pairs(["rte=3,1"])
    {'rte': '3', '': '1'}
    """
    return {
        name: value for name, _, value in (("=" * ("=" not in word) + word).partition("=") for word in words(texts))
    }
