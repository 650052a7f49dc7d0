"""The plots of a sweep in characters, drawn by plotille (extra `plots`) for a terminal."""

from itertools import cycle
from math import log10

from lpcompress.pages.plots import Plot
from lpcompress.pages.sections import Document, sized
from lpcompress.pages.sweep import plots_of

MARKS = "ox+*#@"  # of the methods, in their order
NARROWEST, WIDEST, HEIGHT = 24, 90, 14  # characters between the axes
FRAME = 24  # characters that plotille adds at both sides of these


def chart(document: Document, columns: int) -> str:
    """Return the plots of a sweep below each other, without colours: each method has its mark.

    Parameters
    ----------
    document : mapping
        The content of `sweep.json`.
    columns : int
        Width of the terminal.
    """
    width = min(max(columns - FRAME, NARROWEST), WIDEST)
    return "\n\n".join(_drawn(plot, width) for plot in plots_of(document))


def _drawn(plot: Plot, width: int) -> str:
    from plotille import Figure

    height_of = log10 if plot.log else float
    ticks = {height_of(y): f"{y:g}" for y in plot.ticks[1]}
    figure, marks, legend = Figure(), cycle(MARKS), []
    figure.with_colors, figure.width, figure.height, figure.linesep = False, width, HEIGHT, "\n"
    figure.set_x_limits(*plot.spans[0])
    figure.set_y_limits(*plot.spans[1])
    figure.x_label, figure.origin = "bytes", not plot.log  # origin: a line at y = 0
    figure.x_ticks_fkt = lambda low, _: sized(round(10**low))
    figure.y_ticks_fkt = lambda low, high: next((text for y, text in ticks.items() if low <= y < high), "")
    for line in plot.lines:
        mark = None if line.dashed else next(marks)
        figure.plot([log10(x) for x, _ in line.points], [height_of(y) for _, y in line.points], marker=mark)
        legend.append(f"{mark or '⠒⠒'} {line.label}")
    axes = figure.show().split("\n")[1:]  # the first line has but the name of y, which the title tells
    return "\n".join([f"{plot.title}, against {plot.x}", "   ".join(legend), *axes])
