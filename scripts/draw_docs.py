"""Draw the pictures in docs/pictures: python scripts/draw_docs.py.

floors.svg is drawn from pyproject.toml and the first lines of the READMEs, coding.svg from the real MiniLM (extra
`demo`), subspaces.svg from points that are made up.
"""

import argparse
import re
import textwrap
import tomllib
from pathlib import Path

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from safetensors.torch import load_file

from lpcompress import factorize
from lpcompress.evaluation.demo import bundled_model

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "pictures"
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "docs",
    "font.family": "sans-serif",
}
BLUE, RED, GREY = "#1f77b4", "#b0503c", "#888888"
REMOVED = 0.9


def layers() -> list[list[str]]:
    """Return the floors of the package, from the top, each with its rooms and files."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [floor.split(" | ") for floor in contracts[0]["layers"]]


def about(name: str) -> str:
    """Return what a room or a file says that it is."""
    folder, file = ROOT / "lpcompress" / name, ROOT / "lpcompress" / f"{name}.py"
    if folder.is_dir():
        return (folder / "README.md").read_text().splitlines()[0].partition(": ")[2]
    return re.split("[:,.]| that ", file.read_text().splitlines()[0].strip('"'))[0]


def floors(figure: Figure) -> None:
    """Draw a box for each room, floor below floor."""
    axes = figure.subplots()
    axes.axis("off")
    stack = layers()
    axes.set_xlim(0, 1)
    axes.set_ylim(-len(stack), 0.2)
    for index, names in enumerate(stack):
        axes.fill_between([0, 1], -index - 0.92, -index - 0.08, color="#eef3f8", linewidth=0)
        for column, name in enumerate(names):
            x = (column + 0.5) / len(names)
            folder = (ROOT / "lpcompress" / name).is_dir()
            axes.text(x, -index - 0.28, name + "/" * folder or ".py", ha="center", va="center", weight="bold")
            words = textwrap.fill(about(name), 100 // len(names) if len(names) > 1 else 100)
            axes.text(x, -index - 0.48, words, ha="center", va="top", fontsize=8, color="#444444", linespacing=1)


def coding(figure: Figure) -> None:
    """Draw the spread of coordinates with the one step, and the codes with their price."""
    matrix = load_file(bundled_model() / "model.safetensors")["embeddings.word_embeddings.weight"]
    coded = factorize(matrix, method="coded", ratio=REMOVED)
    spread = torch.linalg.svdvals(matrix) / len(matrix) ** 0.5
    left, right = figure.subplots(1, 2)
    step = float((coded.scales * coded.decoded.basis.float().norm(dim=1)).median() * coded.levels[0])
    left.plot(range(1, len(spread) + 1), spread, color=BLUE, label="spread of the coordinates")
    left.axhline(step, color=RED, linestyle="--", label="step")
    left.set_yscale("log")
    left.set_xlabel("principal axis")
    left.legend(frameon=False, loc="upper right")
    codes, counts = coded.decoded.codes.unique(return_counts=True)
    shown = codes.abs() <= 6
    shares = counts[shown] / counts.sum()
    right.bar(codes[shown], 100 * shares, color=BLUE)
    for code, share in zip(codes[shown].tolist(), shares.tolist(), strict=True):
        if abs(code) <= 2:
            right.text(code, 100 * share + 1, f"{share:.0%}", ha="center", fontsize=9)
    bits = 8 * coded.n_bytes / matrix.numel()
    right.set_xlabel("integer")
    right.xaxis.set_major_locator(MultipleLocator(2))
    right.set_ylim(0, 120 * float(shares.max()))
    right.set_ylabel("share of the coordinates, %")
    right.set_title(f"{bits:.1f} bits a coordinate, all counted", fontsize=11)
    left.set_title(f"one step for everything, {REMOVED:.0%} removed", fontsize=11)


def subspaces(figure: Figure) -> None:
    """Draw a robust line, and two lines instead of one."""
    generator = torch.Generator().manual_seed(3)
    left, right = figure.subplots(1, 2)
    along = torch.randn(60, 1, generator=generator)
    points = along @ torch.tensor([[1.0, 0.35]]) + 0.06 * torch.randn(60, 2, generator=generator)
    points[:4] = torch.tensor([[-0.6, 3.4], [-0.5, 3.0], [0.4, -3.3], [0.3, -2.9]])
    _points(left, points)
    for method, p, colour, label in (("svd", 2.0, RED, "least squares"), ("lp", 1.0, BLUE, "p = 1")):
        _line(left, _direction(points, method, p), colour, label)
    left.legend(frameon=False, loc="lower right")
    left.set_title("outliers", fontsize=11)
    two = torch.cat([along[:30] @ torch.tensor([[1.0, 0.5]]), along[30:] @ torch.tensor([[0.5, -1.1]])])
    two += 0.05 * torch.randn(two.shape, generator=generator)
    _points(right, two)
    for some in (two[:30], two[30:]):
        _line(right, _direction(some), BLUE, None)
    _line(right, _direction(two), RED, "one subspace")
    right.plot([], [], color=BLUE, label="two")
    right.legend(frameon=False, loc="lower left")
    right.set_title("two kinds of rows", fontsize=11)


def _direction(points: torch.Tensor, method: str = "svd", p: float = 2.0) -> torch.Tensor:
    """Return the line through the origin that a method fits to points in the plane."""
    ratio = 0.9 * (1 - (len(points) + 2) / points.numel())  # leaves room for one dimension, not for two
    return factorize(points, method=method, ratio=ratio, p=p).right[0]


def _points(axes: Axes, points: torch.Tensor) -> None:
    axes.scatter(*points.T, s=14, color=GREY)
    axes.set_xlim(-3, 3)
    axes.set_ylim(-3.6, 3.6)
    axes.set_xticks([])
    axes.set_yticks([])


def _line(axes: Axes, direction: torch.Tensor, colour: str, label: str | None) -> None:
    x, y = (direction / direction.norm()).tolist()
    axes.plot([-5 * x, 5 * x], [-5 * y, 5 * y], color=colour, label=label, linewidth=1.6)


def main() -> None:
    """Draw all pictures."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    OUT.mkdir(exist_ok=True)
    for draw, size in ((floors, (8.5, 8)), (coding, (8, 3.4)), (subspaces, (8, 3.4))):
        with rc_context(STYLE):
            figure = Figure(figsize=size)
            draw(figure)
            figure.tight_layout()
            figure.savefig(OUT / f"{draw.__name__}.svg", metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
