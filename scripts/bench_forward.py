"""Measure what a compressed embedding costs in the forward pass of a whole classifier.

    python scripts/bench_forward.py --threads 2

Factors are random, of the sizes that a ratio of 0.28 leaves; times are medians of interleaved runs.
"""

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from lpcompress.factor.factorization import Clustered, Factorization, LowRank, SparseCoded, pack_bits
from lpcompress.nn import from_factorization


def low_rank(rows: int, columns: int, kept: float) -> LowRank:
    """Return random factors that need `kept` of the matrix' numbers."""
    rank = int(kept * rows * columns / (rows + columns))
    return LowRank(torch.randn(rows, rank), torch.randn(rank, columns))


def clustered(rows: int, columns: int, kept: float, clusters: int = 5) -> Clustered:
    """Return random factors in clusters of equal size, of ranks from half to one and a half of the mean."""
    mean = kept * rows * columns / (rows + clusters * columns)
    ranks = torch.linspace(0.5 * mean, min(1.5 * mean, columns), clusters).long()
    labels = torch.randint(clusters, (rows,))
    counts = labels.bincount(minlength=clusters)
    starts = (ranks * counts).cumsum(0) - ranks * counts
    offsets = torch.empty(rows, dtype=torch.int32)
    for cluster in range(clusters):
        places = torch.arange(int(counts[cluster]))
        offsets[labels == cluster] = (starts[cluster] + ranks[cluster] * places).int()
    codes, bases = torch.randn(int((ranks * counts).sum())), torch.randn(int(ranks.sum()), columns)
    return Clustered(codes, bases, offsets, torch.stack([ranks, counts], dim=1))


def sparse(rows: int, columns: int, kept: float) -> SparseCoded:
    """Return a random support that keeps `kept` of the coordinates of a square basis."""
    support = torch.rand(rows, columns) < kept
    blocks = support.unflatten(1, (-1, 8)).any(-1)
    masks = pack_bits(support.unflatten(1, (-1, 8))[blocks]).flatten()
    counts = torch.stack([support.sum(1), blocks.sum(1)], dim=1)
    offsets = (counts.cumsum(0) - counts).int()
    basis = torch.randn(columns, columns)
    return SparseCoded(torch.randn(int(support.sum())), basis, pack_bits(blocks), masks, offsets, columns)


def seconds(module: nn.Module, ids: torch.Tensor) -> float:
    """Return the time of one forward pass."""
    start = time.perf_counter()
    with torch.inference_mode():
        module(ids)
    return time.perf_counter() - start


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in {
        "layers": 6,
        "width": 384,
        "vocabulary": 30522,
        "batch": 32,
        "length": 64,
        "threads": 2,
        "repeats": 15,
    }.items():
        parser.add_argument(f"--{option}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--ratio", type=float, default=0.28, help="share removed, default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=args.vocabulary,
        hidden_size=args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=args.width // 32,
        intermediate_size=4 * args.width,
    )
    model = BertForSequenceClassification(config).eval()
    plain = model.get_input_embeddings()
    ids = torch.randint(args.vocabulary, (args.batch, args.length))
    kinds: dict[str, Factorization] = {
        build.__name__: build(args.vocabulary, args.width, 1 - args.ratio) for build in (low_rank, clustered, sparse)
    }
    modules = {"dense": plain} | {kind: from_factorization(f, plain) for kind, f in kinds.items()}
    layer: dict[str, list[float]] = {name: [] for name in modules}
    whole: dict[str, list[float]] = {name: [] for name in modules}
    for repeat in range(args.repeats + 2):
        for name, module in modules.items():
            model.set_input_embeddings(module)
            times = seconds(model, ids), seconds(module, ids)
            if repeat >= 2:  # the first two warm up
                whole[name].append(times[0])
                layer[name].append(times[1])
    base, base_layer = statistics.median(whole["dense"]), statistics.median(layer["dense"])
    table = Table("embedding", "layer, ms", "model, ms", "layer's overhead, %", "model's overhead, %")
    for name in modules:
        alone, total = statistics.median(layer[name]), statistics.median(whole[name])
        shares = 100 * (alone - base_layer) / base, 100 * (total - base) / base
        table.add_row(name, *(f"{1e3 * t:.2f}" for t in (alone, total)), *(f"{share:.2f}" for share in shares))
    Console().print(table)


if __name__ == "__main__":
    main()
