"""Base class of all options: one declaration gives the bounds, JSON schema, command-line help and error messages.

A field is declared once, in the class that owns it::

    ratio: Annotated[float, Field(gt=0, lt=1, description="Share of stored bytes to REMOVE"), Shown(panel=SIZE)] = 0.28

That line gives the check, the entry in the JSON schema, the option `--ratio` with its help, and the error message
"ratio must be above 0 and below 1: share of stored bytes to REMOVE. Got 28; did you mean 0.28?".
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from lpcompress.errors import PlanError, as_per_cent, briefly, cut, nearest

BOUNDS = {"gt": "above", "lt": "below", "ge": "at least", "le": "at most"}
"""Words for the bounds of a field, by pydantic's names for them."""

EXPECTED = {
    "float": "a number",
    "int": "a whole number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "tuple": "a list of texts",
    "dict": "a mapping",
    "model": "a mapping",
    "bytes": "a size such as 40MB or 40000000",
}
"""What a value must be, by the first part of pydantic's error type."""


@dataclass(frozen=True)
class Shown:
    """How the command line shows a field.

    Attributes
    ----------
    panel : str
        Heading of the option's group in the help.
    metavar : str or None
        Placeholder for the value in the help; None shows the type.
    default : str or None
        The default in words, for values such as None that say little themselves.
    text : bool
        Whether the field parses the text itself, so that the command line passes it on as typed.
    """

    panel: str
    metavar: str | None = None
    default: str | None = None
    text: bool = False


@dataclass(frozen=True)
class OneOf:
    """Restriction of a field to a few words.

    Attributes
    ----------
    words : tuple of str
    file : str
        Description of the file whose name may be given instead of a word; empty if none may be.
    about : tuple of str
        A line on each word, which shells show when they complete it; empty if there is none.
    """

    words: tuple[str, ...]
    file: str = ""
    about: tuple[str, ...] = ()

    @property
    def metavar(self) -> str:
        """Placeholder for the value in the help."""
        return "|".join([*self.words, *["FILE"] * bool(self.file)])

    @property
    def rule(self) -> str:
        """What the value must be, for error messages."""
        words = ", ".join(self.words)
        return f"one of {words}, or {self.file}" if self.file else f"one of {words}"

    def check(self, value: str) -> str:
        """Return `value`; raise if it is neither a word nor an allowed file."""
        if value in self.words or (self.file and Path(value).is_file()):
            return value
        raise PydanticCustomError("one_of", "another word")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) if self.file else {"enum": list(self.words)}


class Options(BaseModel):
    """Base class for a frozen set of options, validated on construction.

    Booleans are refused as numbers (YAML reads `yes` as True, which Python treats as 1). Paths are accepted as text,
    and NumPy numbers as numbers.

    Raises
    ------
    PlanError
        If a value is invalid or a key is unknown; the message suggests the nearest valid one.

    Examples
    --------
    >>> from typing import Annotated
    >>> from pydantic import Field
    >>> class Sampling(Options):
    ...     share: Annotated[float, Field(gt=0, lt=1, description="Share of rows to draw")] = 0.5
    >>> Sampling(share=0.1)
    Sampling(share=0.1)
    >>> Sampling(share=30)
    Traceback (most recent call last):
    lpcompress.errors.PlanError: share must be above 0 and below 1: share of rows to draw. Got 30; did you mean 0.3?
    >>> Sampling(shares=0.3)
    Traceback (most recent call last):
    lpcompress.errors.PlanError: unknown key 'shares'; did you mean 'share'? Known keys: share.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise PlanError(sentence(type(self), error)) from None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler.resolve_ref_schema(handler(schema))
        found["description"] = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]  # the rest is for programmers
        return found

    @classmethod
    def of(cls, given: Self | None, options: Mapping[str, Any]) -> Self:
        """Return the options in `given`, overridden by those in `options`.

        Parameters
        ----------
        given : Options or None
            None means the defaults.
        options : mapping
            Values of fields, by name.

        Raises
        ------
        PlanError
            If `given` is of another class, or an option is invalid.

        Examples
        --------
        >>> from lpcompress.config.plan import Plan
        >>> Plan.of(Plan(p=1, ratio=0.5), {"ratio": 0.3}).given()
        {'ratio': 0.3, 'p': 1.0}
        """
        if given is not None and not isinstance(given, cls):
            name = cls.__name__.lower()
            raise PlanError(
                f"{name} must be a {cls.__name__}. Got {type(given).__name__}; pass its fields as keywords."
            )
        return cls(**{**(given.given() if given else {}), **options})

    def given(self) -> dict[str, Any]:
        """Return the fields that were set explicitly, as plain values."""
        return self.model_dump(exclude_unset=True)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: Any) -> object:
        kinds = set(_kinds(cls.model_fields[info.field_name].annotation))
        if isinstance(value, bool):
            if not kinds & {int, float}:
                return value
            raise PydanticCustomError("int" if int in kinds else "float", "a truth value")
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            return float(value)
        return str(value) if isinstance(value, Path) and str in kinds else value


def bounds(field: FieldInfo) -> str:
    """Return the bounds of a field in words, empty if it has none.

    Examples
    --------
    >>> from lpcompress.config.plan import Plan
    >>> bounds(Plan.model_fields["ratio"]), bounds(Plan.model_fields["p"]), bounds(Plan.model_fields["clusters"])
    ('above 0 and below 1', 'from 1 to 2', 'at least 1')
    """
    found = {key: getattr(each, key) for key in BOUNDS for each in field.metadata if hasattr(each, key)}
    if {"ge", "le"} <= found.keys():
        return f"from {found['ge']} to {found['le']}"
    return " and ".join(f"{word} {found[key]}" for key, word in BOUNDS.items() if key in found)


def note(field: FieldInfo, kind: type[Any]) -> Any:
    """Return the annotation of a field that is of class `kind` (`Shown`, `OneOf`), or None."""
    return next((each for each in field.metadata if isinstance(each, kind)), None)


def default_of(field: FieldInfo) -> str:
    """Return the default of a field in words, empty if it has none."""
    shown, default = note(field, Shown), field.get_default(call_default_factory=True)
    if shown and shown.default:
        return str(shown.default)
    if default is None or default == () or default == {}:
        return ""
    if isinstance(default, tuple):
        return ", ".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def sentence(kind: type[BaseModel], error: ValidationError) -> str:
    """Turn pydantic's first error into one sentence: the field, what it must be, what was given, what may be meant.

    Parameters
    ----------
    kind : type
        The class whose validation failed.
    error : ValidationError
    """
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    cause, place = first.get("ctx", {}).get("error"), [str(each) for each in first["loc"]]
    if isinstance(cause, PlanError):
        return str(cause)
    owner, field = _at(kind, first["loc"])
    if field is None:
        known, where = sorted(owner.model_fields), f" at {cut('.'.join(place[:-1]))}" if place[1:] else ""
        return f"unknown key {briefly(place[-1])}{where}{nearest(place[-1], known)} Known keys: {', '.join(known)}."
    where = cut(".".join(str(each) for each in first["loc"] if isinstance(each, str) and each))
    about = field.description or ""
    about = about if about[1:2].isupper() else about[:1].lower() + about[1:]  # GLUE keeps its capitals
    if first["type"] == "missing":
        return f"{where} must be given: {about}."
    value = f"{first['input']:g}" if isinstance(first["input"], float) else briefly(first["input"])
    return f"{where} must be {_rule(first['type'], field)}: {about}. Got {value}{_hint(first, field)}"


def _at(kind: type[BaseModel], place: tuple[int | str, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """Return the class that a location belongs to, and the field there, or None for an unknown key."""
    field = kind.model_fields.get(str(place[0]))
    for inner in _kinds(field.annotation) if field else ():
        if issubclass(inner, BaseModel) and len(place) > 2:  # field, key of a mapping, field
            return _at(inner, place[2:])
    return kind, field


def _kinds(annotation: Any) -> Iterator[type]:
    """Yield the classes in an annotation."""
    inner = get_args(annotation)
    if not inner and isinstance(annotation, type) and annotation is not NoneType:
        yield annotation
    for each in inner:
        yield from _kinds(each)


def _rule(complaint: str, field: FieldInfo) -> str:
    words = note(field, OneOf)
    if complaint == "one_of" and words:
        return str(words.rule)
    expected = EXPECTED.get(complaint.split("_")[0])
    return expected or bounds(field) or "something else"


def _hint(complaint: Mapping[str, Any], field: FieldInfo) -> str:
    """Return the end of the sentence: what may be meant, or the default that applies if the field is left out."""
    value, words, shown = complaint["input"], note(field, OneOf), note(field, Shown)
    if words and isinstance(value, str):
        return (", which is not a file" if words.file else "") + nearest(value, words.words)
    if bounds(field) == "above 0 and below 1" and complaint["type"] == "less_than":
        return as_per_cent(value if isinstance(value, int) else float(value))
    if shown and shown.default and field.default is None:
        return f"; if left out, it is {shown.default}."
    return "."
