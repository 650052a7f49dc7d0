"""Compare ONNX files of classifiers: dense, dense in int8 by ONNX Runtime itself, compressed, compressed with --int8.

    python scripts/bench_export.py --data GLUE_DIR --models MODELS_DIR

MODELS_DIR holds one fine-tuned classifier per task, with labels in GLUE's order; GLUE_DIR holds <task>/<split>.parquet.
Times are medians of interleaved runs in ONNX Runtime, on the first task's model: processor time with one thread, so
that other processes do not count, else time on the clock. `memory` is what a session adds to a
fresh process, first run included. `difference` is the largest of all logits to those of torch for the model that was
exported, `drop` is in points to the dense model in torch, with its standard error.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from bench_points import compressed, lost, moved, score_of
from rich.console import Console
from rich.table import Table

from lpcompress.checkpoints import loading
from lpcompress.checkpoints.files import file_bytes
from lpcompress.evaluation.prediction import encode, logits
from lpcompress.exporting.export import FILE, export
from lpcompress.glue.data import load_rows
from lpcompress.glue.tasks import TASKS
from lpcompress.processes import Workers

SHAPES = ((1, 32), (32, 64))
MEMORY = """
import sys, time, numpy, onnxruntime

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

before, began = resident(), time.perf_counter()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options)
seconds = time.perf_counter() - began
ones = numpy.ones((1, 32), numpy.int64)
session.run(None, {each.name: ones for each in session.get_inputs()})
print((resident() - before) * 1024, seconds)
"""


class Graph:
    """An ONNX file that is called like a classifier of transformers."""

    device = torch.device("cpu")

    def __init__(self, file: Path, config: Any, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session, self.config = onnxruntime.InferenceSession(str(file), options), config
        self.names = [each.name for each in self.session.get_inputs()]

    def eval(self) -> "Graph":
        """Return the graph."""
        return self

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> SimpleNamespace:
        """Return the logits."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        found = self.session.run(["logits"], {name: given[name].numpy().astype(np.int64) for name in self.names})
        return SimpleNamespace(logits=torch.from_numpy(found[0]))

    __call__ = forward


def files_of(task: str, args: argparse.Namespace, place: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Write the four files for a task; return them, and the torch models in memory."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    dense, tokenizer = loading.load(str(args.models / task))
    source = args.compressed / task if args.compressed else compressed(args.models / task, args.size, place / "small")
    small, _ = loading.load(str(source))
    export(args.models / task, place / "dense-onnx")
    export(source, place / "small-onnx")
    export(source, place / "small-int8", int8=True)
    quantized = place / "dense-int8.onnx"
    quantize_dynamic(place / "dense-onnx" / FILE, quantized, weight_type=QuantType.QInt8, per_channel=True)
    written = {
        "dense": place / "dense-onnx" / FILE,
        "dense, int8 by ONNX Runtime": quantized,
        "compressed": place / "small-onnx" / FILE,
        "compressed, --int8": place / "small-int8" / FILE,
    }
    return written, {
        "dense": dense.eval(),
        "compressed": small.eval(),
        "tokenizer": tokenizer,
        "bytes": file_bytes(source),
    }


def latencies(files: dict[str, Path], tokens: int, threads: int, repeats: int) -> dict[str, list[float]]:
    """Return the median milliseconds of each file at each of `SHAPES`, for ids below `tokens`."""
    graphs = {name: Graph(file, None, threads) for name, file in files.items()}
    clock = time.process_time if threads == 1 else time.perf_counter
    found: dict[str, list[float]] = {name: [] for name in files}
    for rows, length in SHAPES:
        ids = torch.randint(tokens, (rows, length), generator=torch.Generator().manual_seed(0))
        times: dict[str, list[float]] = {name: [] for name in files}
        for repeat in range(repeats + 2):
            for name, graph in graphs.items():
                began = clock()
                graph(ids, torch.ones_like(ids), torch.zeros_like(ids))
                if repeat >= 2:  # the first two warm up
                    times[name].append(1e3 * (clock() - began))
        for name in files:
            found[name].append(statistics.median(times[name]))
    return found


def memory_of(file: Path, threads: int) -> tuple[float, float]:
    """Return the bytes that a session takes, and the seconds to load it."""
    command = [sys.executable, "-c", MEMORY, str(file), str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    taken, seconds = done.stdout.split()
    return float(taken), float(seconds)


def scores(name: str, files: dict[str, Path], models: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return the largest difference and the drop of each file on a task's development set."""
    task, workers = TASKS[name], Workers("cpu")
    rows = load_rows(task, task.splits[0], args.data, args.limit)
    encoded = encode(models["tokenizer"], rows)
    in_torch = {each: logits(models[each], encoded, workers) for each in ("dense", "compressed")}
    found: dict[str, Any] = {"dense_score": score_of(task, rows, in_torch["dense"]), "rows": len(rows)}
    found["torch, compressed"] = lost(task, rows, in_torch["dense"], in_torch["compressed"])
    for each, file in files.items():
        values = logits(Graph(file, models["dense"].config, args.threads), encoded, workers)
        found[each] = moved(in_torch[each.split(",")[0]], values) | lost(task, rows, in_torch["dense"], values)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["mrpc", "sst2"])
    parser.add_argument("--compressed", type=Path, help="compressed checkpoints, one per task, instead of compressing")
    parser.add_argument("--size", type=float, default=0.1, help="of the compressed model, default: %(default)s")
    parser.add_argument("--limit", type=int, help="rows per task, default: all")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    result: dict[str, Any] = {"threads": args.threads, "shapes": SHAPES, "files": {}, "tasks": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for task in args.tasks:
            files, models = files_of(task, args, Path(scratch) / task)
            if not result["files"]:
                result["checkpoint_bytes"] = models["bytes"]
                tokens = models["dense"].config.vocab_size
                times = latencies(files, tokens, args.threads, args.repeats)
                for name, file in files.items():
                    memory, load = memory_of(file, args.threads)
                    sizes = {"bytes": file.stat().st_size, "memory": memory, "load_seconds": load}
                    result["files"][name] = sizes | {"milliseconds": times[name]}
            result["tasks"][task] = scores(task, files, models, args)
            if args.out:
                args.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    table = Table("file", "MB", "memory, MB", "load, s", *(f"{rows} x {length}, ms" for rows, length in SHAPES))
    for task in args.tasks:
        table.add_column(f"{task}: difference")
        table.add_column("drop ± se")
    for name, each in result["files"].items():
        cells = [f"{each['bytes'] / 1e6:.1f}", f"{each['memory'] / 1e6:.0f}", f"{each['load_seconds']:.2f}"]
        cells += [f"{time:.1f}" for time in each["milliseconds"]]
        for task in args.tasks:
            found = result["tasks"][task][name]
            cells += [f"{found['difference']:.2g}", f"{found['drop']:.2f} ± {found['drop_se']:.2f}"]
        table.add_row(name, *cells)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
