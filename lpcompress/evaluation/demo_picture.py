"""The picture of `lpcompress demo`: error and agreement against bytes. Needs matplotlib."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from lpcompress.evaluation.demo import BASELINE, RATIOS, Point
from lpcompress.evaluation.demo_text import of_method
from lpcompress.methods import CODED

LINES = {CODED: ("coded, the default", "#1f77b4", "o"), BASELINE: ("svd, low rank", "#b0503c", "x")}
STYLE = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}


def draw(points: list[Point], file: Path) -> None:
    """Write the picture as a PNG file."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 4))
        error, agreement = figure.subplots(1, 2)
        _panel(error, points, "error_fro", "error of the embedding (0: equal)")
        _panel(agreement, points, "cosine_mean", "agreement of sentence vectors (1: equal)")
        error.legend(frameon=False)
        figure.suptitle("all-MiniLM-L6-v2 with a smaller word embedding")
        figure.tight_layout()
        figure.savefig(file, format="png", dpi=150, facecolor="white")


def _panel(axes: Axes, points: list[Point], field: str, title: str) -> None:
    """Draw one field of the points against the bytes that are left."""
    for method, (label, colour, marker) in LINES.items():
        line = of_method(points, method)
        heights = [getattr(point, field) for point in line]
        axes.plot([1 - point.removed for point in line], heights, label=label, color=colour, marker=marker)
    axes.set_title(title, fontsize=11)
    axes.set_xscale("log")
    axes.set_xticks([1 - ratio for ratio in RATIOS])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("bytes of the embedding that are left")
    axes.set_ylim(-0.03, 1.03)
    axes.grid(color="#e5e5e5", linewidth=0.6)
