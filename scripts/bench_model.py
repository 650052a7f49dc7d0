"""Score whole models of a given size on GLUE development sets: one budget for all layers, no fine-tuning.

    python scripts/bench_model.py --data GLUE_DIR --models MODELS_DIR

MODELS_DIR holds one fine-tuned classifier per task, GLUE_DIR holds <task>/<split>.parquet. Calibration uses unlabelled
texts of the task's own training split. Prints each task's drop in points and their mean; --out also writes them as
JSON, after each result.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console
from rich.table import Table

import lpcompress

RECIPES = {  # row of the table -> options of `compress`, and whether to calibrate on the task's texts
    "SVD": ({"method": "svd", "row_weights": "uniform"}, False),
    "SVD, whitened": ({"method": "svd"}, True),
    "messi": ({"method": "messi"}, False),
    "messi, calibrated": ({"method": "messi"}, True),
    "adaptive": ({"method": "adaptive"}, False),
    "adaptive, calibrated": ({"method": "adaptive"}, True),
    "coded": ({"method": "coded"}, False),
    "coded, calibrated": ({"method": "coded"}, True),
    "auto": ({"method": "auto"}, False),
    "auto, calibrated": ({"method": "auto"}, True),
}


def main() -> None:
    """Score every recipe at every size on every task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["mrpc", "rte", "cola"])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES, metavar="RECIPE")
    parser.add_argument("--removed", nargs="+", type=float, default=[0.2, 0.3, 0.4, 0.5], help="shares of the model")
    parser.add_argument("--limit", type=int, default=300, help="rows per task")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for removed in args.removed:
        for recipe in args.recipes:
            for task in args.tasks:
                results.append(
                    {"removed": removed, "recipe": recipe, "task": task, **score(recipe, removed, task, args)}
                )
                if args.out:
                    args.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    Console(width=140).print(as_table(results, args.tasks))


def score(recipe: str, removed: float, task: str, args: argparse.Namespace) -> dict[str, float]:
    """Compress one model and return its drop in points, its dense score, and the seconds, evaluations included."""
    options, calibrated = RECIPES[recipe]
    if calibrated:
        options = options | {"calibration": f"glue:{task}"}
    began = time.perf_counter()
    found = lpcompress.eval_glue(
        args.models / task, task, data=args.data, limit=args.limit, target_size=1 - removed, layers=["all"], **options
    )["tasks"][task]
    return {"drop": found["drop"], "dense": found["baseline_score"], "seconds": time.perf_counter() - began}


def as_table(results: list[dict], tasks: list[str]) -> Table:
    """Return a table with one row per size and recipe."""
    table = Table("removed", "recipe", *tasks, "mean drop", "seconds")
    for removed, recipe in dict.fromkeys((each["removed"], each["recipe"]) for each in results):
        chosen = [each for each in results if (each["removed"], each["recipe"]) == (removed, recipe)]
        drops = [each["drop"] for each in chosen]
        seconds = sum(each["seconds"] for each in chosen)
        mean = sum(drops) / len(drops)
        table.add_row(f"{removed:.0%}", recipe, *(f"{drop:.1f}" for drop in drops), f"{mean:.2f}", f"{seconds:.0f}")
    return table


if __name__ == "__main__":
    main()
