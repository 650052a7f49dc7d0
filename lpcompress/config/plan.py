"""The user's wish, checked: what to compress, how, and how much of it to remove."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, field_validator, model_validator

from lpcompress.config.yaml_file import read_yaml
from lpcompress.errors import PlanError, as_per_cent, nearest
from lpcompress.methods import AUTO
from lpcompress.methods import METHODS as ROWS

METHODS = (AUTO, *ROWS)
ONE_SUBSPACE = tuple(name for name, row in ROWS.items() if row.one_subspace)
ROW_WEIGHTS = ("zipf", "uniform")
Compressing = TypeVar("Compressing", bound=Callable[..., Any])
DEFAULT_RATIO = 0.28  # that of the first paper
LARGEST_SEED = 2**63 - 1  # what torch's generators take


SIZES = ("ratio", "target_size", "max_bytes", "allocation")
"""Keys that say how small the result shall be; a plan has one of them."""
SHARE = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}  # as JSON schema says it
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _schema(*kinds: dict[str, Any]) -> WithJsonSchema:
    """Return what the published schema says of a value that is of one of `kinds`."""
    return WithJsonSchema({"anyOf": list(kinds)} if len(kinds) > 1 else kinds[0])


NONE = {"type": "null"}


class LayerPlan(BaseModel):
    """What becomes of one layer: `method`, and the share `ratio` of its stored bytes that is removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["sparse", "adaptive", "lp", "messi", "svd"]
    ratio: float = Field(gt=0, lt=1)


class Plan(BaseModel):
    """What to compress and how.

    Attributes
    ----------
    method : str, default="auto"
        One of `METHODS`. `auto` fits several and keeps the one with the least weighted error; `sketch` is for linear
        layers and convolutions that will be trained.
    p : float, default=2.0
        Exponent of the norm in which every candidate is fitted, from 1 to 2.
    ratio : float or None, default=0.28
        Share of every layer's stored bytes that is *removed*, between 0 and 1; None where another size is given.
    target_size : float or None
        Size of the whole model as a share of its stored bytes, between 0 and 1: what is *kept*.
    max_bytes : int or None
        The same in bytes, the header of the weight file counted; text such as "40MB" is read too.
    allocation : dict of str to LayerPlan, or None
        Method and ratio of every layer, as a dry run works them out from a size of the model; `method` is "auto" then,
        or that of all of them.
    calibration : str or None
        Unlabelled text: a file, or `glue:TASK`.
    clusters : int or None
        Number of subspaces; None lets the method choose.
    row_weights : str, default="zipf"
        How much each row counts: `zipf` (from the tokenizer alone), `uniform`, or a file of token counts.
    exponent : float or None
        Power of a token's share of text that is its row's weight, from 0 to 2; None lets the ratio choose.
    layers : tuple of str, default=("embedding",)
        Shell wildcards over module names, or the words embedding, linear, attention, ffn, conv, all.
    seed : int, default=0
        Where drawn starts begin.

    Raises
    ------
    PlanError
        If a value makes no sense or a key is unknown; the message names the nearest thing that does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Annotated[str, _schema({"enum": list(METHODS)})] = "auto"
    p: Annotated[float, _schema({"type": "number", "minimum": 1, "maximum": 2})] = 2.0
    ratio: Annotated[float | None, _schema(SHARE, NONE)] = DEFAULT_RATIO
    target_size: Annotated[float | None, _schema(SHARE, NONE)] = None
    max_bytes: Annotated[int | None, _schema({"type": "integer", "minimum": 1}, {"type": "string"}, NONE)] = None
    allocation: dict[str, LayerPlan] | None = None
    calibration: str | None = None
    clusters: Annotated[int | None, _schema({"type": "integer", "minimum": 1}, NONE)] = None
    row_weights: str = "zipf"
    exponent: Annotated[float | None, _schema({"type": "number", "minimum": 0, "maximum": 2}, NONE)] = None
    layers: Annotated[
        tuple[str, ...],
        _schema({"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "string"}),
    ] = ("embedding",)
    seed: Annotated[int, _schema({"type": "integer", "minimum": 0, "maximum": LARGEST_SEED})] = 0

    def __init__(self, **values: Any) -> None:
        unknown = sorted(set(values) - set(type(self).model_fields))
        if unknown:
            known = sorted(type(self).model_fields)
            raise PlanError(f"unknown key {unknown[0]!r}{nearest(unknown[0], known)} Known keys: {', '.join(known)}.")
        sizes = [key for key in SIZES if values.get(key) is not None]
        if len(sizes) > 1:
            raise PlanError(f"{sizes[0]} and {sizes[1]} must not be given together: each says how small the result is.")
        if sizes and sizes != ["ratio"]:
            values = values | {"ratio": None}
        elif not sizes:
            values.pop("ratio", None)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise PlanError(_sentence(error)) from None

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a plan from a YAML file of keys and values.

        Parameters
        ----------
        path : str or Path
        overrides : mapping, optional
            Values that win over those of the file (the command line's).

        Raises
        ------
        PlanError
            If the file cannot be read, is not a mapping, or holds something that `Plan` refuses.
        """
        values = read_yaml(path, "key: value")
        values = {} if values is None else values
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise PlanError(f"{path}: must hold keys and values. Write one `key: value` a line, such as `ratio: 0.28`.")
        try:
            cls(**values)  # the file must be right by itself, or a bad value could hide behind an option
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from None
        overrides = overrides or {}
        if any(overrides.get(key) is not None for key in SIZES):  # the size in the file gives way, whichever it is
            values = {key: value for key, value in values.items() if key not in SIZES}
        return cls(**{**values, **overrides})

    def to_yaml(self) -> str:
        """Return the plan as YAML that `from_yaml` reads back; what is not set is left out."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)

    @field_validator("p", "ratio", "target_size", "max_bytes", "clusters", "exponent", "seed", mode="before")
    @classmethod
    def _no_truth_values(cls, value: object) -> object:
        if isinstance(value, bool):  # YAML reads `yes` as True, and True counts as 1
            raise ValueError("must be a number.")
        return value

    @field_validator("layers", mode="before")
    @classmethod
    def _one_pattern_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("allocation")
    @classmethod
    def _some_layers(cls, value: dict[str, LayerPlan] | None) -> dict[str, LayerPlan] | None:
        if value == {}:
            raise PlanError("allocation must name at least one layer. Leave it out to give a size instead.")
        return value

    @field_validator("calibration", "row_weights", mode="before")
    @classmethod
    def _a_path_is_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        if value not in METHODS:
            raise PlanError(f"method must be one of {', '.join(METHODS)}. Got {value!r}{nearest(value, METHODS)}")
        return value

    @field_validator("p")
    @classmethod
    def _a_norm(cls, value: float) -> float:
        if not 1 <= value <= 2:
            raise PlanError(f"p is the exponent of the norm, from 1 to 2. Got {value:g}.")
        return value

    @field_validator("target_size")
    @classmethod
    def _a_size(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value < 1:
            raise PlanError(
                "target_size is the share of the model that is kept, between 0 and 1."
                f" Got {value:g}{as_per_cent(value)}"
            )
        return value

    @field_validator("max_bytes", mode="before")
    @classmethod
    def _a_number_of_bytes(cls, value: object) -> object:
        count = None if value is None else read_bytes(value)
        if count == 0:
            raise PlanError(f"max_bytes is the size of the model, such as 40MB or 40000000. Got {value!r}.")
        return count

    @field_validator("ratio")
    @classmethod
    def _a_share(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value < 1:
            raise PlanError(
                f"ratio is the share of stored bytes removed, between 0 and 1. Got {value:g}{as_per_cent(value)}"
            )
        return value

    @field_validator("clusters")
    @classmethod
    def _a_number_of_clusters(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise PlanError(f"clusters must be at least 1. Got {value}; leave it out to let the method choose.")
        return value

    @field_validator("row_weights")
    @classmethod
    def _a_prior(cls, value: str) -> str:
        if value not in ROW_WEIGHTS and not Path(value).is_file():
            raise PlanError(
                f"row_weights must be zipf, uniform or a file of token counts. Got {value!r}, "
                f"which is no file{nearest(value, ROW_WEIGHTS)}"
            )
        return value

    @field_validator("exponent")
    @classmethod
    def _a_power(cls, value: float | None) -> float | None:
        if value is not None and not 0 <= value <= 2:
            raise PlanError(
                f"exponent is the power of a token's share of text that is its row's weight, from 0 to 2. "
                f"Got {value:g}; leave it out to let the ratio choose."
            )
        return value

    @field_validator("layers")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(pattern.strip() for pattern in value):
            raise PlanError(
                "layers must name at least one pattern, none of them empty. "
                "Write 'embedding' or a wildcard such as '*.word_embeddings'."
            )
        return value

    @field_validator("seed")
    @classmethod
    def _a_seed(cls, value: int) -> int:
        if not 0 <= value <= LARGEST_SEED:
            raise PlanError(f"seed must be between 0 and {LARGEST_SEED}. Got {value}.")
        return value

    @model_validator(mode="after")
    def _clusters_need_a_clustering(self) -> Self:
        if self.method in ONE_SUBSPACE and self.clusters not in (None, 1):
            raise PlanError(
                f"method {self.method!r} has one subspace, so clusters must be 1 or left out. "
                f"Got {self.clusters}; the methods with several are adaptive and messi."
            )
        return self

    @model_validator(mode="after")
    def _allocated_methods_stand(self) -> Self:
        others = sorted({layer.method for layer in (self.allocation or {}).values()} - {self.method})
        if others and self.method != "auto":
            raise PlanError(
                f"the allocation gives layers to {', '.join(others)}, so method cannot be {self.method!r}."
                " Leave method and methods out, or give a size in the place of the allocation."
            )
        return self


def read_bytes(size: object) -> int:
    """Return the number of bytes in 40MB or 40000000, 0 for what is no size."""
    found = re.fullmatch(r"([\d.]+)\s*([KMG]I?B)?", str(size).strip().upper())
    try:
        return int(float(found[1]) * UNITS[found[2] or ""]) if found else 0
    except (ValueError, OverflowError):  # two points; infinity
        return 0


def checked(compressing: Compressing) -> Compressing:
    """Have the options of `Plan` among those of a function checked, and read as in a plan: one pattern is a list.

    Texts for calibration are no part of a plan, and are passed on.
    """

    @wraps(compressing)
    def call(*arguments: Any, **options: Any) -> Any:
        texts = not isinstance(options.get("calibration"), str | Path | None)
        names = [name for name in options if name in Plan.model_fields and not (texts and name == "calibration")]
        plan = Plan(**{name: options.pop(name) for name in names})
        return compressing(*arguments, **options | plan.model_dump(include=set(names)))

    return cast(Compressing, call)


def plans_for(methods: str | Sequence[str], options: Mapping[str, Any]) -> dict[str, Plan]:
    """Return the plans of an evaluation, by method: one for each named, else the one that the options make.

    Parameters
    ----------
    methods : str or sequence of str
        Methods to be compared. The number of clusters goes to those that have clusters.
    options : mapping
        Those of `Plan`; empty, and no methods: there is nothing to compress with.

    Raises
    ------
    PlanError
        If a value makes no sense, or `method` is given beside several.
    """
    methods = (methods,) if isinstance(methods, str) and methods else methods
    if not methods:
        return {plan.method: plan for plan in ([Plan(**options)] if options else [])}
    if "method" in options:
        raise PlanError("method and methods must not be given together. Name all that are to be compared in methods.")
    shared = {key: value for key, value in options.items() if key != "clusters"}
    return {
        method: Plan(**(shared if method in ONE_SUBSPACE else options), method=method)
        for method in dict.fromkeys(methods)
    }


def _sentence(error: ValidationError) -> str:
    """Turn the first of pydantic's complaints into one sentence: where, what it must be, what was got."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, PlanError):
        return str(cause)
    where = str(first["loc"][0])
    if where == "allocation":
        return (
            "allocation must give each layer a method of its own and a ratio between 0 and 1, as `compress --save-plan`"
            f" writes it. Got {first['input']!r} at {'.'.join(map(str, first['loc']))}."
        )
    expected = dict.fromkeys(("ratio", "target_size", "p", "exponent"), "a number") | dict.fromkeys(
        ("clusters", "seed"), "a whole number"
    )
    return f"{where} must be {expected.get(where, 'text')}. Got {first['input']!r}."
