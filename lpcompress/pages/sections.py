"""What a page is made of, whatever it will be written as."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from pydantic.dataclasses import dataclass  # checks its values: documents may have been edited

from lpcompress.pages.plots import Plot

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """A bar of a chart.

    Attributes
    ----------
    label : str
    value : float
    text : str
        The value as shown.
    error : float
        Half of the error bar; 0 for none.
    series : int
        Number of its colour, from 0.
    """

    label: str
    value: float
    text: str
    error: float = 0.0
    series: int = 0


@dataclass(frozen=True)
class Chart:
    """Horizontal bars that share one axis, which contains 0."""

    title: str
    bars: Sequence[Bar]

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest value on the axis."""
        low = min(0.0, *(bar.value - bar.error for bar in self.bars))
        high = max(0.0, *(bar.value + bar.error for bar in self.bars))
        return (low, high) if high > low else (0.0, 1.0)

    def at(self, value: float) -> float:
        """Return where a value is on the axis, in per cent of its length.

        Examples
        --------
        >>> chart = Chart("drop", [Bar("mrpc", 3.0, "3.0"), Bar("rte", -1.0, "-1.0")])
        >>> chart.at(-1.0), chart.at(0.0), chart.at(3.0)
        (0.0, 25.0, 100.0)
        """
        low, high = self.span
        return round(100 * (value - low) / (high - low), 3)


@dataclass(frozen=True)
class Table:
    """A table; the first column holds names, the others numbers or words; with `total`, the last row sums them up."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    total: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page: one result.

    Attributes
    ----------
    title : str
    headline : str
        The result in one sentence.
    good : bool or None
        Whether the gates passed; None without gates.
    facts, settings, versions : mapping of str to str
    charts : sequence of Chart
    tables : sequence of Table
    notes : sequence of str
        What to know before using the result.
    command : str or None
        The command that gives this result; None if the document does not tell.
    plots : sequence of Plot
    """

    title: str
    headline: str
    good: bool | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    plots: Sequence[Plot] = ()


def sized(count: int) -> str:
    """Return a number of bytes in a unit that suits it, of powers of 1000.

    Examples
    --------
    >>> sized(640), sized(46881), sized(46881792), sized(2 * 10**9)
    ('640 B', '46.9 kB', '46.9 MB', '2.0 GB')
    """
    if count < 1000:
        return f"{count} B"
    unit, name = next((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= unit)
    return f"{count / unit:,.1f} {name}"


def named(values: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as words; those that are not set are left out.

    Examples
    --------
    >>> named({"seed": 0, "limit": None, "max_drop": {"": 1.0}, "layers": ["all"], "p": 1.0})
    {'seed': '0', 'max drop': '1', 'layers': 'all', 'p': '1'}
    """
    return {key.replace("_", " "): _word(value) for key, value in values.items() if value not in (None, "", [], {})}


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_word(each)}" if key else _word(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
