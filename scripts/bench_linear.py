"""Time the forward pass of linear layers: dense, factored, clustered and coded, at equal parameters.

    python scripts/bench_linear.py --threads 1

Weights are random. `kept` is the share of the dense layer's numbers, and of its multiplications, that the other layers
have: a factored layer is as fast as its arithmetic if its time is at most `kept` times the dense one's. `folded` is the
clustered layer that leaves its outputs in the order of its clusters. Times are medians of interleaved runs.
"""

import argparse
import copy
import statistics
import time

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from lpcompress.factor import METHODS, Clustered, Factorization, LowRank
from lpcompress.factor.problem import Budget, Settings
from lpcompress.nn import from_factorization

CLUSTERS = 4


def low_rank(rows: int, columns: int, kept: float) -> LowRank:
    """Return random factors that hold the share `kept` of the matrix' numbers."""
    rank = round(kept * rows * columns / (rows + columns))
    return LowRank(torch.randn(rows, rank), torch.randn(rank, columns) / columns)


def clustered(rows: int, columns: int, kept: float) -> Clustered:
    """Return random factors in clusters of equal size, with ranks from 0.5 to 1.5 times their mean."""
    mean = kept * rows * columns / (rows + CLUSTERS * columns)
    ranks = torch.linspace(0.5 * mean, 1.5 * mean, CLUSTERS).round().long().clamp_min(1)
    counts = torch.full((CLUSTERS,), rows // CLUSTERS)
    labels = torch.arange(CLUSTERS).repeat_interleave(rows // CLUSTERS)[torch.randperm(rows)]
    starts = (ranks * counts).cumsum(0) - ranks * counts
    offsets = torch.empty(rows, dtype=torch.int32)
    for cluster in range(CLUSTERS):
        offsets[labels == cluster] = (starts[cluster] + ranks[cluster] * torch.arange(rows // CLUSTERS)).int()
    bases = torch.randn(int(ranks.sum()), columns) / columns
    return Clustered(torch.randn(int((ranks * counts).sum())), bases, offsets, torch.stack([ranks, counts], dim=1))


def layers(rows: int, columns: int, kept: float) -> dict[str, nn.Module]:
    """Return the layers to compare, all of one shape, and of one size except the dense one."""
    dense = nn.Linear(columns, rows)
    budget = Budget(int(4 * kept * rows * columns), 4)
    held: dict[str, Factorization] = {
        "factored": low_rank(rows, columns, kept),
        "clustered": clustered(rows, columns, kept),
        "coded": METHODS["coded"](dense.weight.detach(), budget, Settings()),
    }
    modules = {"dense": dense} | {name: from_factorization(each, dense) for name, each in held.items()}
    modules["folded"] = copy.deepcopy(modules["clustered"])
    modules["folded"].sort_outputs()
    return modules


def medians(modules: dict[str, nn.Module], hidden: Tensor, repeats: int) -> dict[str, float]:
    """Return the median time of each module's forward pass, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in modules}
    with torch.inference_mode():
        for repeat in range(repeats + 2):
            for name, module in modules.items():
                start = time.perf_counter()
                module(hidden)
                if repeat >= 2:  # the first two warm up
                    times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[384, 768], help="default: %(default)s")
    parser.add_argument("--kept", type=float, nargs="+", default=[1.0, 0.8, 0.6, 0.4, 0.2], help="default: %(default)s")
    for option, default in {"batch": 32, "length": 64, "threads": 2, "repeats": 9}.items():
        parser.add_argument(f"--{option}", type=int, default=default, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    table = Table("outputs x inputs", "kept", "rank", title=f"milliseconds, {args.batch} x {args.length} tokens")
    for heading in ("dense", "factored", "x dense", "clustered", "x dense", "folded", "x dense", "coded"):
        table.add_column(heading, justify="right")
    cases = [(n, d, kept) for w in args.widths for n, d in ((w, w), (4 * w, w), (w, 4 * w)) for kept in args.kept]
    for rows, columns, kept in track(cases, console=Console(stderr=True), transient=True):
        ms = medians(layers(rows, columns, kept), torch.randn(args.batch, args.length, columns), args.repeats)
        shares = {name: f"{ms[name] / ms['dense']:.2f}" for name in ms}
        rank = round(kept * rows * columns / (rows + columns))
        table.add_row(
            *(f"{rows} x {columns}", f"{kept:.0%}", str(rank), f"{ms['dense']:.1f}"),
            *(f"{ms['factored']:.1f}", shares["factored"], f"{ms['clustered']:.1f}", shares["clustered"]),
            *(f"{ms['folded']:.1f}", shares["folded"], f"{ms['coded']:.1f}"),
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
