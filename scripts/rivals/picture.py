"""The picture: bytes against drop, the embedding above, the whole model below."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from rivals.rival import SCOPES
from rivals.rows import Row, Rows

LINES = {  # rival, or family -> label, colour, marker; rows of one label are joined
    "coded, no calibration": ("lpcompress, no calibration", "#8ec5e8", "o"),
    "coded, drawn text": ("lpcompress, drawn text (no data)", "#1f77b4", "o"),
    "coded, text of the task": ("lpcompress, text of the task", "#0b3c6f", "o"),
    "nncodec": ("ISO/IEC 15938-17", "#f2a65a", "s"),
    "nncodec DQ": ("ISO/IEC 15938-17, dependent", "#d1495b", "s"),
    "gobo": ("GOBO, 4 to 2 bits", "#3a7d44", "^"),
    "rounding": ("int8, 4, 3, 2, groups of 64", "#777777", "v"),
    "svd": ("SVD", "#b59fd0", "x"),
    "messi": ("messi", "#8060a8", "x"),
    "adaptive": ("adaptive", "#553377", "x"),
}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
DROPS = (0, 1, 2, 5, 10, 20, 50)
STYLE = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "rivals"}


def draw(rows: Rows, folder: Path) -> None:
    """Write rivals.svg and rivals.png.

    Parameters
    ----------
    rows : Rows
    folder : Path
    """
    shown = [name for name, scope in SCOPES.items() if scope.scored and rows.of(name)]
    if not shown:
        return
    with rc_context(STYLE):
        figure = Figure(figsize=(7, 3.9 * len(shown) + 1.2))
        panels = figure.subplots(len(shown), 1, squeeze=False)
        for axes, name in zip(panels[:, 0], shown, strict=True):
            _panel(axes, name, rows.of(name))
        handles = {label: handle for axes in panels[:, 0] for handle, label in _legend(axes)}
        labels = [label for label, *_ in LINES.values() if label in handles]
        figure.legend(
            [handles[label] for label in labels], labels, loc="lower center", ncols=2, frameon=False, fontsize=10
        )
        figure.tight_layout(rect=(0, 0.26 / len(shown), 1, 1))
        figure.savefig(folder / "rivals.svg", metadata={"Date": None}, facecolor="white")
        figure.savefig(folder / "rivals.png", dpi=200, metadata={"Software": None}, facecolor="white")


def _panel(axes: Axes, name: str, rows: list[Row]) -> None:
    """Draw one scope: a line for each rival, the mean drop over tasks with its standard error."""
    for key, (label, colour, marker) in LINES.items():
        points = sorted(
            (row.share, row.mean("drop"), row.mean_se("drop"))
            for row in rows
            if key in (row.rival, row.family) and row.mean("drop") is not None
        )
        if points:
            share, drop, error = zip(*points, strict=True)
            style = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.4, "capsize": 2}
            axes.errorbar(share, drop, yerr=error, label=label, elinewidth=0.8, **style)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=2, linscale=1)
    axes.set_ylim(-1, 70)
    axes.set_xticks(TICKS)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(DROPS)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda drop, _: f"{drop:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.axhline(0, color="#999999", linewidth=0.8)
    tasks = ", ".join(sorted(rows[0].tasks))
    axes.set_title(f"{SCOPES[name].title} ({tasks})", fontsize=12, loc="left")
    axes.set_xlabel("bytes left, share of float32")
    axes.set_ylabel("drop, points")


def _legend(axes: Axes) -> Iterator[tuple[Any, str]]:
    """Return handle and label of every line of a panel."""
    return zip(*axes.get_legend_handles_labels(), strict=True)
