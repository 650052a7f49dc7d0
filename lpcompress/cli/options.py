"""Options of the command line that several commands have, declared once, and how their words are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lpcompress.config.plan import METHODS, Plan, read_bytes
from lpcompress.errors import PlanError

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A Hub id or a local directory.")]
TemplateArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|TEMPLATE",
        help="A Hub id or directory; a template with {task}, {Task} or {TASK} in it; a YAML file of tasks and models.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the output directory if it exists.")]

MethodOption = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(METHODS), help="How to factor. Default: auto, which tries several and keeps the best."
    ),
]
NormOption = Annotated[float | None, typer.Option("--p", help="Exponent of the norm to fit in, 1 to 2. Default: 2.")]
RatioOption = Annotated[
    float | None, typer.Option(help="Share of the layers' stored bytes to REMOVE, 0 to 1. Default: 0.28.")
]
TargetSizeOption = Annotated[
    float | None,
    typer.Option(help="Instead of --ratio: the share of the whole model's bytes to KEEP, 0 to 1; see --layers."),
]
MaxBytesOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Instead of --ratio: how large the whole model may be, as 40MB.")
]
CalibrationOption = Annotated[
    str | None,
    typer.Option(metavar="FILE|glue:TASK", help="Unlabelled text to fit to: one a line, .jsonl, or GLUE (--data)."),
]
ClustersOption = Annotated[int | None, typer.Option(help="Number of subspaces. Default: chosen by itself.")]
RowWeightsOption = Annotated[
    str | None,
    typer.Option(metavar="zipf|uniform|FILE", help="How much each token counts. Default: zipf, from the tokenizer."),
]
ExponentOption = Annotated[
    float | None,
    typer.Option(help="Power of a token's share of text that is its row's weight, 0 to 2. Default: from the ratio."),
]
LayersOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Wildcard over module names, or embedding (default), linear, attention, ffn, conv, all. Repeatable.",
    ),
]
ConfigOption = Annotated[Path | None, typer.Option(help="YAML file of these options; the command line wins.")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of all that is drawn. Default: 0.")]

DataOption = Annotated[
    str, typer.Option(metavar="hub|DIR", help="Where GLUE is: the Hub, or a directory of <task>/<split>.parquet ...")
]
DeviceOption = Annotated[str | None, typer.Option(help="Where to compute. Default: a GPU if there is one.")]
LimitOption = Annotated[int | None, typer.Option(help="Only so many rows of each split.")]
LabelMapOption = Annotated[
    Path | None,
    typer.Option(help="YAML or JSON file: task -> classes in the order of the model's outputs."),
]


def wish(config: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `Plan` that were given, in the file or on the command line; the latter wins."""
    given = {key: value for key, value in options.items() if value is not None}
    if config is None:
        return given
    plan = Plan.from_yaml(config, given)
    return {"ratio": plan.ratio} | plan.model_dump(exclude_unset=True)  # an empty file asks for the defaults


def words(texts: Sequence[str] | None) -> list[str]:
    """Return the words of a repeatable option, each of which may be a list with commas."""
    return [word.strip() for text in texts or () for word in text.split(",") if word.strip()]


def pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """Return what was given as NAME=VALUE; a value without a name is under ""."""
    return {
        name: value for name, _, value in (("=" * ("=" not in word) + word).partition("=") for word in words(texts))
    }


def shard_size(text: str | None) -> int | None:
    """Return the bytes of --max-shard-size.

    Raises
    ------
    PlanError
        If it is no size.
    """
    if text is not None and not read_bytes(text):
        raise PlanError(f"max_shard_size is the size of a weight file, such as 2GB. Got {text!r}.")
    return None if text is None else read_bytes(text)


def limits(name: str, texts: Sequence[str] | None) -> dict[str, float] | None:
    """Return the numbers of a gate: X, TASK=X, average=X.

    Raises
    ------
    PlanError
        If one is no number.
    """
    try:
        return {key: float(value) for key, value in pairs(texts).items()} or None
    except ValueError:
        raise PlanError(f"{name} must be a number, or TASK=NUMBER. Got {', '.join(texts or ())}.") from None
