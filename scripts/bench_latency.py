"""Measure what a compressed classifier costs in each resident form: latency, loading, memory, size.

    python scripts/bench_latency.py --threads 1 --json latency.json

The model is a BERT classifier of random weights, dense, with a coded embedding, and coded as a whole, beside the dense
model with torch's dynamic int8 and, with --onnx, in ONNX Runtime, in float32 and with its own dynamic int8. Latencies
are those of interleaved rounds: a round runs every side once. With one thread they are processor time, so that other
processes count less. On a crowded machine the smallest time says more than the median; both are printed. Each loading
is a process of its own, which imports, loads and runs one batch; these are interleaved too. Loading inside one process
is measured beside it.
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from bench_export import Graph
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertForSequenceClassification

import lpcompress
from lpcompress.exporting.export import FILE, export
from lpcompress.nn.residence import RESIDENCES

SHAPES = ((1, 32), (32, 64))  # texts, tokens
LAYERS = {"embedding": ["embedding"], "whole": ["all"]}  # what is coded
CHILD = """
import json, os, sys, time
began = time.perf_counter()
import torch
torch.set_num_threads(int(sys.argv[2]))
import lpcompress
from transformers import BertForSequenceClassification
imported = time.perf_counter()
model = BertForSequenceClassification.from_pretrained(sys.argv[1]).eval()
loaded = time.perf_counter()
with torch.inference_mode():
    model(torch.arange(32).view(1, 32))
done = time.perf_counter()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
kib = {key: int(status[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")}
print(json.dumps({"seconds": done - began, "load": loaded - imported, "first": done - loaded,
    "resident_bytes": kib["VmRSS"], "peak_bytes": kib["VmHWM"]}))
"""


def main() -> None:
    """Measure and print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folders = checkpoints(Path(scratch), args)
        models = sides(folders)
        everything = models | (in_onnx_runtime(folders["dense"], Path(scratch), args.threads) if args.onnx else {})
        found: dict[str, Any] = {
            "threads": args.threads,
            "load_average": os.getloadavg(),
            "torch": torch.__version__,
            "model": {key: getattr(args, key) for key in ("layers", "width", "heads", "vocabulary", "ratio")},
            "file_bytes": {name: (folder / "model.safetensors").stat().st_size for name, folder in folders.items()},
        }
        note(found, args.json, "latency", latencies(everything, args))
        if args.loads:
            note(found, args.json, "loading", loading(folders, args))
    if args.compile:
        torch._dynamo.config.cache_size_limit = 64
        compiled = {name: torch.compile(model) for name, model in models.items() if name != "torch dynamic int8"}
        note(found, args.json, "compiled", latencies(compiled, args))
    show(found)


def note(found: dict[str, Any], file: Path | None, name: str, numbers: dict[str, Any]) -> None:
    """Add numbers to those found, and write them: a run takes long."""
    found[name] = numbers
    if file:
        file.write_text(json.dumps(found, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {
        "layers": 12,
        "width": 768,
        "heads": 12,
        "vocabulary": 30522,
        "threads": 1,
        "rounds": 11,
        "loads": 5,
    }  # loads 0: not measured
    for option, default in sizes.items():
        parser.add_argument(f"--{option}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--ratio", type=float, default=0.9, help="share removed, default: %(default)s")
    parser.add_argument("--onnx", action="store_true", help="run the dense model in ONNX Runtime too")
    parser.add_argument("--compile", action="store_true", help="measure latencies with torch.compile too")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    return parser.parse_args()


def checkpoints(scratch: Path, args: argparse.Namespace) -> dict[str, Path]:
    """Write the dense model and its compressed selves; return their directories."""
    torch.manual_seed(0)
    sizes = {"hidden_size": args.width, "num_hidden_layers": args.layers, "vocab_size": args.vocabulary}
    heads = {"num_attention_heads": args.heads, "intermediate_size": 4 * args.width}
    config = BertConfig(**sizes, **heads)
    folders = {}
    for name, layers in {"dense": [], **LAYERS}.items():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config).eval()
        if layers:
            lpcompress.compress(model, layers=layers, method="coded", ratio=args.ratio, row_weights="uniform")
        folders[name] = scratch / name
        model.save_pretrained(folders[name])
    return folders


def sides(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return the models to compare by name."""
    models = {"dense": lpcompress.load(str(folders["dense"]))[0]}
    for name in LAYERS:
        for resident in RESIDENCES:
            models[f"{name}, {resident}"] = lpcompress.load(str(folders[name]), resident=resident)[0]
    dense = BertForSequenceClassification.from_pretrained(folders["dense"]).eval()
    models["torch dynamic int8"] = torch.ao.quantization.quantize_dynamic(dense, {torch.nn.Linear}, dtype=torch.qint8)
    return models


def in_onnx_runtime(dense: Path, scratch: Path, threads: int) -> dict[str, Any]:
    """Return the dense model in ONNX Runtime, in float32 and with its own dynamic int8, by name."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    export(dense, scratch / "onnx")
    quantize_dynamic(scratch / "onnx" / FILE, scratch / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
    files = {"ONNX Runtime": scratch / "onnx" / FILE, "ONNX Runtime int8": scratch / "int8.onnx"}
    graphs = {name: Graph(file, None, threads) for name, file in files.items()}

    def call(graph: Graph) -> Callable[..., Any]:
        return lambda input_ids: graph(input_ids, torch.ones_like(input_ids), torch.zeros_like(input_ids))

    return {name: call(graph) for name, graph in graphs.items()}


def latencies(models: Mapping[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return what `latency` does for each shape."""
    return {f"{texts} x {tokens}": latency(models, texts, tokens, args) for texts, tokens in SHAPES}


def latency(models: Mapping[str, Any], texts: int, tokens: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds that each model takes for a batch, and their ratios to the dense model's."""
    ids = torch.randint(args.vocabulary, (texts, tokens), generator=torch.Generator().manual_seed(0))

    def run(model: Any) -> Callable[[], Any]:
        return lambda: model(input_ids=ids)

    clock = time.process_time if args.threads == 1 else time.perf_counter
    return in_rounds({name: run(model) for name, model in models.items()}, args.rounds, clock)


def in_rounds(
    sides: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Run every side once a round; return medians and least times, and both over those of the first side."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, side in sides.items():
                began = clock()
                side()
                if number:  # the first round warms up
                    times[name].append(clock() - began)
    return ratios(times)


def ratios(times: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return median and least time of each side, and both over those of the first side."""
    reference = next(iter(times.values()))
    return {
        name: {
            "median": statistics.median(each),
            "least": min(each),
            "median_ratio": statistics.median(each) / statistics.median(reference),
            "least_ratio": min(each) / min(reference),
        }
        for name, each in times.items()
    }


def loading(folders: Mapping[str, Path], args: argparse.Namespace) -> dict[str, Any]:
    """Return times and memory of fresh processes that load each checkpoint, and times inside this process."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.loads):
        for name, folder in folders.items():
            for resident in RESIDENCES if name != "dense" else ("auto",):
                key = name if name == "dense" else f"{name}, {resident}"
                found.setdefault(key, []).append(in_a_process(folder, resident, args.threads))
    ids = torch.arange(32).view(1, 32)

    def load(folder: Path) -> Callable[[], Any]:
        return lambda: BertForSequenceClassification.from_pretrained(folder).eval()(ids)

    return {
        "fresh_process": {key: {one: least(runs, one) for one in runs[0]} for key, runs in found.items()},
        "fresh_process_seconds": ratios({key: [run["seconds"] for run in runs] for key, runs in found.items()}),
        "same_process": in_rounds({name: load(folder) for name, folder in folders.items()}, args.loads),
    }


def least(runs: list[dict[str, float]], key: str) -> float:
    """Return the smallest of one number."""
    return min(run[key] for run in runs)


def in_a_process(folder: Path, resident: str, threads: int) -> dict[str, float]:
    """Load a checkpoint in a fresh process and run it; return its times and memory."""
    environment = os.environ | {"LPCOMPRESS_RESIDENT": resident, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(folder), str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def show(found: Mapping[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=120)
    console.print(f"threads: {found['threads']}; load average: {found['load_average'][0]:.1f}")
    console.print("ratios: median (least) over the dense model's")
    for title in ("latency", "compiled"):
        for shape, sides in found.get(title, {}).items():
            table = Table("model", "least, ms", "median, ms", "ratio", title=f"{title}, {shape}")
            for name, each in sides.items():
                table.add_row(name, *(f"{1e3 * each[key]:.1f}" for key in ("least", "median")), ratio(each))
            console.print(table)
    if "loading" not in found:
        return
    table = Table("model", "file, MB", "process, s", "ratio", "load, s", "resident, MB", "peak, MB", title="loading")
    for name, each in found["loading"]["fresh_process"].items():
        size = f"{found['file_bytes'][name.partition(',')[0]] / 1e6:.1f}"
        memory = [f"{each[key] / 1e6:.0f}" for key in ("resident_bytes", "peak_bytes")]
        seconds = found["loading"]["fresh_process_seconds"][name]
        table.add_row(name, size, f"{each['seconds']:.2f}", ratio(seconds), f"{each['load']:.2f}", *memory)
    for name, each in found["loading"]["same_process"].items():
        table.add_row(f"{name}, in one process", "", f"{each['least']:.2f}", ratio(each), "", "", "")
    console.print(table)


def ratio(each: Mapping[str, float]) -> str:
    """Return the ratio of medians, and that of the least times."""
    return f"{each['median_ratio']:.2f} ({each['least_ratio']:.2f})"


if __name__ == "__main__":
    main()
