"""Measure the peak memory of `lpcompress compress` on a checkpoint much larger than the memory that it may use.

    python scripts/bench_memory.py                                    # svd on every layer of a 2 GB checkpoint
    python scripts/bench_memory.py --layers embedding --method auto

The limit is the checkpoint's largest shard plus six times its largest layer. The memory of the same command on a tiny
checkpoint, that is of the interpreter and its imports, is subtracted. The weights are random and of BERT-large's
shapes; every process has one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console  # no torch here: a process begins with its parent's peak

MAKE = """
import sys
from transformers import BertConfig, BertForMaskedLM

blocks, width, tokens, shard, folder = sys.argv[1:]
sizes = {"hidden_size": int(width), "intermediate_size": 4 * int(width), "num_attention_heads": 4}
config = BertConfig(vocab_size=int(tokens), num_hidden_layers=int(blocks), **sizes)
BertForMaskedLM(config).save_pretrained(folder, max_shard_size=shard)
"""
NOTHING = ("1", "16", "200", "1GB")
UNIFORM = ("--row-weights", "uniform")  # there is no tokenizer
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def python(*arguments: str) -> str:
    """Run Python in a new process and return what it prints."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True).stdout


def compress(source: Path, options: list[str]) -> dict[str, float]:
    """Compress `source` and return peak memory, seconds, number of layers, largest layer and sizes before and after."""
    began = time.perf_counter()
    out = source.with_name(f"{source.name}-out")
    command = (
        "-m",
        "lpcompress",
        "compress",
        str(source),
        "--out",
        str(out),
        "--overwrite",
        "--json",
        *UNIFORM,
        *options,
    )
    report = json.loads(python(*command))
    return {
        "peak": report["peak_rss_bytes"],
        "seconds": time.perf_counter() - began,
        "layers": len(report["layers"]),
        "largest": max(layer["bytes_before"] for layer in report["layers"]),
        "before": report["file_bytes_before"],
        "after": report["file_bytes_after"],
    }


def main() -> None:
    """Create both checkpoints, compress them, and print peak memory and limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", nargs="+", default=["svd"])
    parser.add_argument("--layers", nargs="+", default=["all"])
    parser.add_argument("--ratio", default="0.28")
    parser.add_argument("--blocks", default="38")
    parser.add_argument("--width", default="1024")
    parser.add_argument("--tokens", default="30522")
    parser.add_argument("--shard", default="500MB")
    args = parser.parse_args()
    layers = [word for pattern in args.layers for word in ("--layers", pattern)]
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as folder:
        large, nothing = Path(folder) / "large", Path(folder) / "nothing"
        python("-c", MAKE, args.blocks, args.width, args.tokens, args.shard, str(large))
        python("-c", MAKE, *NOTHING, str(nothing))
        shard = max(file.stat().st_size for file in large.glob("*.safetensors"))
        for method in args.method:
            options = ["--method", method, "--ratio", args.ratio, *layers]
            base, run = compress(nothing, options), compress(large, options)
            limit, peak = shard + 6 * run["largest"], run["peak"] - base["peak"]
            console.print(
                f"{method}: {run['layers']} layers of {run['before'] / 1e6:.0f} MB in {run['seconds']:.0f} s,"
                f" {run['after'] / 1e6:.0f} MB left; peak {peak / 1e6:.0f} MB above the {base['peak'] / 1e6:.0f} MB of"
                f" the interpreter; limit {limit / 1e6:.0f} MB ({shard / 1e6:.0f} + 6 x {run['largest'] / 1e6:.0f})"
            )


if __name__ == "__main__":
    main()
