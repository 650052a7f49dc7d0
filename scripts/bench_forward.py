"""Measure what a compressed embedding adds to the forward pass of a whole classifier.

    python scripts/bench_forward.py --threads 2

Weights are random and factored at a ratio of 0.28. Times are medians of interleaved runs.
"""

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from lpcompress.factor import factorize
from lpcompress.nn import from_factorization


def seconds(module: nn.Module, ids: torch.Tensor) -> float:
    """Return the seconds that one forward pass takes."""
    start = time.perf_counter()
    with torch.inference_mode():
        module(ids)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
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
    matrix = plain.weight.detach()
    modules = {"dense": plain}
    for method in ("svd", "adaptive", "coded"):
        modules[method] = from_factorization(factorize(matrix, method, args.ratio), plain)
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
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
