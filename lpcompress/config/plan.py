"""Options for compression: what to compress, how, and how much to remove."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from lpcompress.config.options import OneOf, Options, Shown
from lpcompress.config.sizes import Bytes
from lpcompress.errors import PlanError, briefly
from lpcompress.methods import AUTO, DEFAULT_RATIO, METHODS, current_name

NAMES = (AUTO, *METHODS)
SIZES = ("ratio", "target_size", "max_bytes", "allocation")
"""Fields that set the size of the result; a plan has one of them."""
LARGEST_SEED = 2**63 - 1  # what torch's generators take

DRAWN, NONE = "drawn", "none"  # values of `calibration` that name no text
SIZE, WHAT, FIT = "How small", "What to compress", "How to fit"  # groups of the command line's help


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Patterns = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed),
    WithJsonSchema(
        {"anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "string", "minLength": 1}]}
    ),
]
"""One pattern or several."""


class LayerPlan(BaseModel):
    """Method of one layer, and share of its bytes to remove or step size of its codes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Annotated[
        str,
        BeforeValidator(current_name),
        OneOf(tuple(name for name, method in METHODS.items() if not method.needs_training)),
        Field(description="Factorization method of this layer"),
    ]
    ratio: Annotated[float | None, Field(gt=0, lt=1, description="Share of this layer's stored bytes to remove")] = None
    delta: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False, description="Step size of this layer's codes (instead of ratio)")
    ] = None

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.ratio is None) == (self.delta is None):
            raise PlanError("a layer of an allocation must have either ratio or delta.")
        if self.delta is not None and not METHODS[self.method].one_step:
            raise PlanError(f"delta is a step size of codes, which method {self.method!r} has not. Give ratio instead.")
        return self


class Plan(Options):
    """What to compress and how. The field descriptions are the help text of `lpcompress compress`.

    Exactly one of `ratio`, `target_size`, `max_bytes` and `allocation` sets the size. If it is not `ratio`, `ratio` is
    None.

    Raises
    ------
    PlanError
        If a value is invalid or a key is unknown; the message suggests the nearest valid one.

    Examples
    --------
    >>> Plan(method="svd").ratio
    0.28
    >>> Plan(max_bytes="40MB", layers="all").given()
    {'ratio': None, 'max_bytes': 40000000, 'layers': ('all',)}
    """

    ratio: Annotated[
        float | None,
        Field(gt=0, lt=1, description="Share of each layer's stored bytes to REMOVE"),
        Shown(SIZE),
    ] = DEFAULT_RATIO
    target_size: Annotated[
        float | None,
        Field(gt=0, lt=1, description="Share of the whole model's stored bytes to KEEP (instead of ratio)"),
        Shown(SIZE),
    ] = None
    max_bytes: Annotated[
        Bytes,
        Field(description="Largest size of the whole model's weight file, such as 40MB (instead of ratio)"),
        Shown(SIZE, metavar="SIZE", text=True),
    ] = None
    allocation: Annotated[
        dict[str, LayerPlan] | None,
        Field(description="Method and ratio of each layer, as `compress --save-plan` writes them (instead of ratio)"),
    ] = None
    layers: Annotated[
        Patterns,
        Field(
            description="Wildcard for module names, or one of embedding, linear, attention, ffn, conv, all; repeatable"
        ),
        Shown(WHAT, metavar="PATTERN"),
    ] = ("embedding",)
    method: Annotated[
        str,
        BeforeValidator(current_name),
        OneOf(NAMES, about=("fits several methods and keeps the best", *(each.help for each in METHODS.values()))),
        Field(description="Factorization method; auto fits several and keeps the best"),
        Shown(FIT),
    ] = AUTO
    p: Annotated[float, Field(ge=1, le=2, description="Exponent of the l_p norm to minimize"), Shown(FIT)] = 2.0
    clusters: Annotated[
        int | None,
        Field(ge=1, description="Number of subspaces"),
        Shown(FIT, default="chosen by the method"),
    ] = None
    row_weights: Annotated[
        str,
        OneOf(("zipf", "uniform"), file="a file of token counts"),
        Field(description="Weights of the embedding's rows; zipf estimates token frequency from the tokenizer"),
        Shown(FIT),
    ] = "zipf"
    exponent: Annotated[
        float | None,
        Field(ge=0, le=2, description="Exponent applied to token frequency to get row weights"),
        Shown(FIT, default="chosen to suit the size"),
    ] = None
    calibration: Annotated[
        str | None,
        Field(
            description="Text to fit to: drawn from the tokenizer's statistics (no data is used), none, unlabelled text"
            " in a file with one text per line or .jsonl, or from a GLUE task"
        ),
        Shown(FIT, metavar="drawn|none|FILE|glue:TASK", default="drawn for a size of the model, none for a ratio"),
    ] = None
    digest: Annotated[
        str | None,
        Field(description="SHA-256 of the calibration text's tokens, as `compress --save-plan` writes it"),
    ] = None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED, description="Random seed"), Shown(FIT)] = 0

    @classmethod
    def of(cls, given: Self | None, options: Mapping[str, Any]) -> Self:
        """Return the plan `given`, overridden by `options`; a size in `options` replaces any size of the plan."""
        if isinstance(given, Plan) and any(options.get(key) is not None for key in SIZES):
            options = {key: value for key, value in given.given().items() if key not in SIZES} | dict(options)
            given = None
        return super().of(given, options)

    @property
    def sized(self) -> bool:
        """Whether a size was given, instead of left to the default or to a search."""
        return any(self.given().get(key) is not None for key in SIZES)

    @property
    def text(self) -> str | None:
        """Source of the calibration text, None for none: what `calibration` says, or the default for the size."""
        if self.calibration is None:
            sized = self.target_size is not None or self.max_bytes is not None
            trained = self.method != AUTO and METHODS[self.method].needs_training
            return DRAWN if sized and self.p == 2 and not trained else None
        return None if self.calibration == NONE else self.calibration

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a plan from a YAML file of `key: value` lines.

        Parameters
        ----------
        path : str or Path
        overrides : mapping, optional
            Values that replace those of the file, such as those of the command line.

        Raises
        ------
        PlanError
            If the file cannot be read, is not a mapping, or holds a value or key that `Plan` refuses, even one that an
            override would replace.
        """
        from lpcompress.config.yaml_file import read_yaml  # not above: only --config needs PyYAML

        values = read_yaml(path, "key: value")
        values = {} if values is None else values
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise PlanError(
                f"{path}: must hold keys and values. Write one `key: value` per line, such as `ratio: 0.28`."
            )
        try:
            plan = cls(**values)
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from None
        return cls.of(plan, overrides or {})

    def to_yaml(self) -> str:
        """Return the plan as YAML that `from_yaml` can read; fields that are None are left out."""
        import yaml

        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)

    @model_validator(mode="before")
    @classmethod
    def _one_size(cls, values: Any) -> Any:
        sizes = [key for key in SIZES if values.get(key) is not None]
        if len(sizes) > 1:
            raise PlanError(f"{sizes[0]} and {sizes[1]} must not be given together: each sets the size. Leave one out.")
        if sizes and sizes != ["ratio"]:
            return values | {"ratio": None}
        return values if sizes else {key: value for key, value in values.items() if key != "ratio"}

    @field_validator("allocation")
    @classmethod
    def _some_layers(cls, value: dict[str, LayerPlan] | None) -> dict[str, LayerPlan] | None:
        if value == {}:
            raise PlanError("allocation must name at least one layer. Leave it out to give a size instead.")
        return value

    @field_validator("layers")
    @classmethod
    def _no_empty_pattern(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(pattern.strip() for pattern in value):
            raise PlanError(
                "layers must name at least one pattern, none of them empty. "
                "Write 'embedding' or a wildcard such as '*.word_embeddings'."
            )
        return value

    @model_validator(mode="after")
    def _clusters_need_a_clustering(self) -> Self:
        if self.method != AUTO and METHODS[self.method].one_subspace and self.clusters not in (None, 1):
            raise PlanError(
                f"method {self.method!r} has one subspace, so clusters must be 1 or left out. Got"
                f" {briefly(self.clusters)}."
                " Leave clusters out, or choose a method with several subspaces."
            )
        return self

    @model_validator(mode="after")
    def _allocation_keeps_its_methods(self) -> Self:
        others = sorted({layer.method for layer in (self.allocation or {}).values()} - {self.method})
        if others and self.method != AUTO:
            raise PlanError(
                f"the allocation gives layers to {', '.join(others)}, so method cannot be {self.method!r}."
                " Leave method and methods out, or give a size instead of the allocation."
            )
        return self


def plans_for(methods: str | Sequence[str], plan: Plan | None) -> dict[str, Plan]:
    """Return the plans of an evaluation, one for each method.

    Parameters
    ----------
    methods : str or sequence of str
        Methods to compare. `clusters` is passed only to methods with several subspaces.
    plan : Plan or None
        Options that all methods share; without methods, the only plan. With None and no methods nothing is compressed.

    Raises
    ------
    PlanError
        If a method is unknown, or both `methods` and `plan.method` are given.

    Examples
    --------
    >>> list(plans_for(["svd", "messi"], Plan(ratio=0.5, clusters=4)))
    ['svd', 'messi']
    """
    methods = (methods,) if isinstance(methods, str) and methods else methods
    if not methods:
        return {plan.method: plan} if plan else {}
    shared = plan.given() if plan else {}
    if "method" in shared:
        raise PlanError("method and methods must not be given together. Name all methods to compare in methods.")
    without = {key: value for key, value in shared.items() if key != "clusters"}
    one_subspace = {name for name, method in METHODS.items() if method.one_subspace}
    return {
        method: Plan(**{**(without if method in one_subspace else shared), "method": method})
        for method in dict.fromkeys(methods)
    }
