"""Measure the points that each resident form of a compressed classifier loses.

    python scripts/bench_points.py --data GLUE_DIR --models MODELS_DIR --tasks sst2 mrpc

MODELS_DIR holds one fine-tuned classifier per task, with labels in GLUE's order; GLUE_DIR holds <task>/<split>.parquet.
`drop` is in points, to the model that was compressed, on the same rows of its development set, with its standard error;
`to codes` is what the form itself loses, to the form `codes`. `moved` is the mean squared change of the logits since
then, over their variance.
"""

import argparse
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import lpcompress
from lpcompress.checkpoints import loading, saving
from lpcompress.checkpoints.files import file_bytes
from lpcompress.evaluation.prediction import encode, logits
from lpcompress.glue import metrics, statistics
from lpcompress.glue.data import Rows, load_rows
from lpcompress.glue.tasks import TASKS, Task
from lpcompress.nn.residence import RESIDENCES
from lpcompress.processes import Workers


def predictions(task: Task, values: np.ndarray) -> np.ndarray:
    """Return the class of largest logit, or the number itself for a regression."""
    return values.argmax(axis=1) if task.classes else values[:, 0]


def score_of(task: Task, rows: Rows, values: np.ndarray) -> float:
    """Return the score of logits, in points."""
    return metrics.score(metrics.compute(task, predictions(task, values), rows.labels))


def lost(task: Task, rows: Rows, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Return the drop in points from the logits `before` to those `after`, and its standard error."""
    measures = tuple(metrics.statistic(task, key) for key in task.metrics)
    pair = statistics.Paired(rows.labels, predictions(task, before), predictions(task, after), measures)
    drop = score_of(task, rows, before) - score_of(task, rows, after)
    return {"drop": drop, "drop_se": statistics.drop_se([pair])}


def moved(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Return the largest difference of logits, and their mean squared difference over the variance of `before`."""
    difference = after - before
    return {"difference": float(np.abs(difference).max()), "moved": float(np.square(difference).mean() / before.var())}


def compressed(source: Path, size: float, out: Path) -> Path:
    """Compress a classifier as a whole to a share of its bytes; return its directory."""
    model, tokenizer = loading.load(str(source))
    lpcompress.compress(model, method="coded", target_size=size, layers=["all"], tokenizer=tokenizer)
    saving.save(model, tokenizer, out, source=str(source))
    return out


def measured(name: str, args: argparse.Namespace, small: Path) -> dict[str, Any]:
    """Return what each resident form of a compressed classifier loses on a task."""
    task, workers = TASKS[name], Workers("cpu")
    rows = load_rows(task, task.splits[0], args.data, args.limit)
    dense, tokenizer = loading.load(str(args.models / name))
    encoded = encode(tokenizer, rows)
    before = logits(dense, encoded, workers)
    found = {form: logits(loading.load(str(small), resident=form)[0], encoded, workers) for form in RESIDENCES}
    return {
        "rows": len(rows),
        "dense_score": score_of(task, rows, before),
        "size": file_bytes(small) / file_bytes(args.models / name),
        "forms": {
            form: lost(task, rows, before, values)
            | {"to_codes": lost(task, rows, found["codes"], values)}
            | moved(found["codes"], values)
            for form, values in found.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["sst2", "mrpc"])
    parser.add_argument("--size", type=float, default=0.25, help="of the compressed model, default: %(default)s")
    parser.add_argument("--limit", type=int, help="rows per task, default: all")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    result = {}
    table = Table("task", "rows", "dense", "size", "resident", "drop ± se", "to codes", "moved")
    for name in args.tasks:
        with tempfile.TemporaryDirectory() as scratch:
            found = result[name] = measured(name, args, compressed(args.models / name, args.size, Path(scratch) / "it"))
        if args.json:
            args.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
        for form, each in found["forms"].items():
            heads = (name, str(found["rows"]), f"{found['dense_score']:.2f}", f"{found['size']:.3f}")
            drops = [f"{one['drop']:.2f} ± {one['drop_se']:.2f}" for one in (each, each["to_codes"])]
            table.add_row(*heads, form, *drops, f"{each['moved']:.2g}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
