"""The picture of a sweep, drawn by matplotlib (extra `plots`) from its document."""

import io
from typing import Any

from lpcompress.pages.plots import Plot
from lpcompress.pages.sections import Document, sized
from lpcompress.pages.sweep import plots_of

COLOURS = ("#8a94a0", "#2563c9", "#c2571a", "#2f7d4f", "#7a4fb5", "#a8324a")  # as in report.css
WIDTH, HEIGHT, DOTS = 5.2, 3.9, 160  # inches of a plot, dots per inch


def draw(document: Document, kind: str) -> bytes:
    """Return the picture of a sweep; the same document and version of matplotlib give the same bytes.

    Parameters
    ----------
    document : mapping
        The content of `sweep.json`.
    kind : str
        "svg" or "png".
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    plots = plots_of(document)
    with rc_context({"svg.hashsalt": "lpcompress", "svg.fonttype": "path", "font.size": 9}):
        figure = Figure(figsize=(WIDTH * len(plots), HEIGHT), layout="constrained")
        for axes, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
            _fill(axes, plot)
        figure.suptitle(f"{document['model']}, {sized(document['dense']['bytes'])}")
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=DOTS, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _fill(axes: Any, plot: Plot) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for line in plot.lines:
        xs, ys = zip(*line.points, strict=True)
        style = {"color": COLOURS[line.series % len(COLOURS)], "label": line.label}
        if line.dashed:
            axes.plot(xs, ys, linestyle="--", **style)
        else:
            axes.errorbar(xs, ys, yerr=line.errors or None, marker="o", markersize=4, capsize=3, **style)
    axes.set_xscale("log")
    axes.set_xticks(plot.ticks[0])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: sized(round(value))))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if plot.log:
        axes.set_yscale("log")
        axes.set_yticks(plot.ticks[1])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.axhline(0, color=COLOURS[0], linewidth=0.8)
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
