"""Plots of pages and pictures: lines of points over a logarithmic axis of bytes."""

from collections.abc import Sequence
from math import ceil, floor, log10

from pydantic.dataclasses import dataclass  # checks its values: documents may have been edited

MARGIN = 0.04  # of an axis, beyond the outermost values
TICKS = 5  # of a linear axis, about
FEW = 3  # below which a logarithmic axis has those of a linear one


@dataclass(frozen=True)
class Line:
    """Points of one method, or a curve to compare them with.

    Attributes
    ----------
    label : str
    points : sequence of (float, float)
        In ascending order of x.
    errors : sequence of float
        Half of the error bar of each point; empty for none.
    series : int
        Number of its colour, from 0.
    dashed : bool
        Whether it is a dashed line without marks.
    """

    label: str
    points: Sequence[tuple[float, float]]
    errors: Sequence[float] = ()
    series: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """Lines over one pair of axes; x is logarithmic, y if `log` says so, else it contains 0."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log: bool = False

    @property
    def spans(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Smallest and largest x and y, as far as the axes go; logarithms where the axis is logarithmic."""
        xs = [log10(x) for line in self.lines for x, _ in line.points]
        ys = [
            value
            for line in self.lines
            for (_, y), error in zip(line.points, line.errors or [0.0] * len(line.points), strict=True)
            for value in ((log10(y),) if self.log else (y - error, y + error))
        ]
        return _wider(xs), _wider(ys if self.log else [*ys, 0.0])

    def at_x(self, x: float) -> float:
        """Return where an x is, in per cent of the width."""
        low, high = self.spans[0]
        return round(100 * (log10(x) - low) / (high - low), 2)

    def at_y(self, y: float) -> float:
        """Return where a y is, in per cent of the height, from the top.

        Examples
        --------
        >>> plot = Plot("drop", "bytes", "points", [Line("coded", [(10.0, 0.0), (1000.0, 8.0)])])
        >>> plot.at_x(100.0), plot.at_y(4.0)
        (50.0, 50.0)
        """
        low, high = self.spans[1]
        return round(100 * (high - (log10(y) if self.log else y)) / (high - low), 2)

    @property
    def ticks(self) -> tuple[list[float], list[float]]:
        """Round values of x and y inside the plot."""
        (left, right), (low, high) = self.spans
        return _decades(left, right), _decades(low, high) if self.log else _steps(low, high)


def _wider(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = MARGIN * (high - low) or 0.5
    return low - margin, high + margin


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two logarithms, or equal steps if those are too few."""
    every = [digit * 10.0**power for power in range(floor(low), ceil(high) + 1) for digit in (1, 2, 5)]
    inside = [value for value in every if 10**low <= value <= 10**high]
    return inside if len(inside) >= FEW else _steps(10**low, 10**high)


def _steps(low: float, high: float) -> list[float]:
    """Return about `TICKS` multiples of a round number."""
    raw = (high - low) / TICKS
    power = 10.0 ** floor(log10(raw))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= raw)
    return [round(step * i, 10) for i in range(ceil(low / step), floor(high / step) + 1)]
