"""Time the same work on the CPU and on an accelerator: fits of a matrix, a whole model, and running it.

    python scripts/bench_devices.py                      # the CPU, and a GPU if there is one
    python scripts/bench_devices.py --devices cpu --rows 2000 --columns 64 --layers 1 --width 64

Every fit is of one seeded matrix of RoBERTa-base's size. The model is a BERT of BERT-base's size with random weights;
all its layers are coded at a tenth of the bytes, without calibration. Times are medians on the clock, after a run that
is not counted. `round trips` are reads that made the CPU wait for the accelerator, in one run. Prints JSON.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from bench_factor import matrix_of
from transformers import BertConfig, BertForSequenceClassification

import lpcompress
from lpcompress.factor.choice import choose
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Settings

FITS = {  # row -> method, ratio, settings
    "svd": ("svd", 0.28, {}),
    "lp p=1": ("lp", 0.28, {"p": 1.0}),
    "messi k=5": ("messi", 0.28, {"clusters": 5}),
    "adaptive": ("adaptive", 0.28, {}),
    "coded, 28 % removed": ("coded", 0.28, {}),
    "coded, 90 % removed": ("coded", 0.9, {}),
}
RESIDENTS = ("codes", "dense", "int8")
BATCHES = ((1, 32), (32, 64))  # texts, tokens each


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", default=devices(), help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=50265)
    parser.add_argument("--columns", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--fits", nargs="*", choices=FITS, default=list(FITS), metavar="ROW")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found: dict[str, Any] = {"threads": args.threads, "torch": torch.__version__}
    matrix, model = matrix_of(args.rows, args.columns, minilm=False), classifier(args)
    for device in args.devices:
        if torch.device(device).type == "cuda":
            found["accelerator"] = torch.cuda.get_device_name(device)
        fits = {name: fit(matrix.to(device), *FITS[name], args.repeats) for name in args.fits}
        found[device] = {"fits": fits, "model": whole_model(model, device, args.repeats)}
    print(json.dumps(found, indent=1))


def devices() -> list[str]:
    """Return the CPU, and the accelerator of this machine if it has one."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return ["cpu", accelerator.type] if accelerator else ["cpu"]


def classifier(args: argparse.Namespace) -> BertForSequenceClassification:
    """Return a BERT with random weights."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": args.layers, "hidden_size": args.width, "intermediate_size": 4 * args.width}
    config = BertConfig(vocab_size=min(args.rows, 30522), num_attention_heads=max(1, args.width // 64), **sizes)
    return BertForSequenceClassification(config).eval()


def fit(matrix: torch.Tensor, method: str, ratio: float, settings: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Return seconds, round trips and the error of one fit."""

    def work() -> Any:
        return choose(matrix, method, ratio, Settings(**settings)).factorization

    done, seconds, trips = timed(work, matrix.device.type, repeats)
    error = relative_error(matrix, done.dense(), settings.get("p", 2.0))
    found = {"seconds": seconds, "round trips": trips, "error": round(error, 5)}
    print(matrix.device.type, method, ratio, settings, found, file=sys.stderr)
    return found


def whole_model(dense: BertForSequenceClassification, device: str, repeats: int) -> dict[str, Any]:
    """Return seconds to code all layers, to load them onto the device, and to run each resident form."""
    plan = {"layers": ["all"], "target_size": 0.1, "calibration": "none", "row_weights": "uniform"}

    def work() -> Any:
        model = copy.deepcopy(dense)
        lpcompress.compress(model, device=device, **plan)
        return model

    model, seconds, trips = timed(work, device, 1, warm=False)
    found: dict[str, Any] = {"compress": {"seconds": seconds, "round trips": trips}}
    with tempfile.TemporaryDirectory() as directory, torch.inference_mode():
        model.save_pretrained(directory)
        loaded = {"dense model": copy.deepcopy(dense).to(device)}
        for resident in RESIDENTS:
            read = partial(read_onto, device, directory, resident)
            loaded[resident], seconds, _ = timed(read, device, 1, warm=False)
            found[f"load, {resident}"] = {"seconds": seconds}
        for texts, tokens in BATCHES:
            ids = torch.randint(dense.config.vocab_size, (texts, tokens), device=device)
            for name, each in loaded.items():
                _, seconds, trips = timed(partial(each, ids), device, 10 * repeats)
                found[f"{texts} x {tokens}, {name}"] = {"seconds": seconds, "round trips": trips}
    print(device, found, file=sys.stderr)
    return found


def read_onto(device: str, directory: str, resident: str) -> Any:
    """Return a model, loaded in a resident form onto a device."""
    return lpcompress.load(directory, resident=resident)[0].to(device)


def timed(work: Callable[[], Any], device: str, repeats: int, warm: bool = True) -> tuple[Any, float, int | None]:
    """Return the result of `work`, the median of its seconds, and its round trips; None if they cannot be counted."""
    trips = None
    if warm and device == "cuda":
        trips = round_trips(work)
    elif warm:
        work()
    times = []
    for _ in range(repeats):
        settle(device)
        began = time.perf_counter()
        result = work()
        settle(device)
        times.append(time.perf_counter() - began)
    return result, round(statistics.median(times), 5), trips


def settle(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device != "cpu":
        torch.accelerator.synchronize()


def round_trips(work: Callable[[], Any]) -> int:
    """Return how often the CPU waited for the GPU during `work`."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


if __name__ == "__main__":
    main()
