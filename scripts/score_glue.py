"""Score compressed embeddings on GLUE development sets, every method beside the dense model, no fine-tuning.

    python scripts/score_glue.py --data GLUE_DIR --models MODELS_DIR

MODELS_DIR holds one fine-tuned classifier a task (MODELS_DIR/mrpc, ...), GLUE_DIR holds <task>/<split>.parquet with
the Hub's column names. Prints drops in points (dense minus compressed) and writes them with --out.
"""

import argparse
import copy
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import lpcompress

COLUMNS = {
    "mrpc": ("sentence1", "sentence2"),
    "stsb": ("sentence1", "sentence2"),
    "cola": ("sentence",),
    "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence",),
    "qqp": ("question1", "question2"),
}
RECIPES = {  # row of the table -> options of `compress`
    "SVD": {"method": "svd", "row_weights": "uniform"},
    "SVD, zipf": {"method": "svd"},
    "lp p=1": {"method": "lp", "p": 1.0, "row_weights": "uniform"},
    "messi": {"method": "messi", "row_weights": "uniform"},
    "messi, zipf": {"method": "messi"},
    "adaptive": {"method": "adaptive"},
    "sparse": {"method": "sparse"},
    "sparse p=1": {"method": "sparse", "p": 1.0},
    "auto": {"method": "auto"},
}


def score(task: str, logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of the task's metrics in points."""
    if task == "stsb":
        return 50 * (pearsonr(logits[:, 0], labels)[0] + spearmanr(logits[:, 0], labels)[0])
    predicted = logits.argmax(axis=1)
    if task == "cola":
        return 100 * matthews_corrcoef(labels, predicted)
    accuracy = 100 * accuracy_score(labels, predicted)
    return (accuracy + 100 * f1_score(labels, predicted)) / 2 if task in ("mrpc", "qqp") else accuracy


@torch.inference_mode()
def run(model: torch.nn.Module, batches: list) -> np.ndarray:
    """Return the logits of all rows, in their order."""
    parts = {int(i): row for rows, batch in batches for i, row in zip(rows, model(**batch).logits.numpy(), strict=True)}
    return np.stack([parts[i] for i in range(len(parts))])


def load(task: str, args: argparse.Namespace) -> tuple:
    """Return the dense model, its tokenizer, batches sorted by length, and the labels."""
    model = AutoModelForSequenceClassification.from_pretrained(args.models / task).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.models / task)
    rows = datasets.Dataset.from_parquet(str(args.data / task / f"{args.split}.parquet"), keep_in_memory=True)
    rows = rows.select(range(min(args.limit or len(rows), len(rows))))
    encoded = tokenizer(*(list(rows[column]) for column in COLUMNS[task]), truncation=True, max_length=128)
    order = np.argsort([len(ids) for ids in encoded["input_ids"]], kind="stable")
    batches = []
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        features = {key: [values[i] for i in part] for key, values in encoded.items()}
        batches.append((part, tokenizer.pad(features, return_tensors="pt")))
    return model, tokenizer, batches, np.array(rows["label"])


def main() -> None:
    """Score every recipe at every ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=None, choices=COLUMNS, help="default: all that have a model")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES, metavar="RECIPE")
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.28, 0.6, 0.8, 0.9])
    parser.add_argument("--exponents", nargs="+", type=float, default=[None], help="of the row prior")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=int, help="rows a task")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    datasets.disable_progress_bars()
    tasks = args.tasks or [task for task in COLUMNS if (args.models / task).is_dir()]
    runs = [(recipe, ratio, power) for ratio in args.ratios for recipe in args.recipes for power in args.exponents]
    results, console = [], Console(stderr=True)
    for task in tasks:
        model, tokenizer, batches, labels = load(task, args)
        dense = run(model, batches)
        base = score(task, dense, labels)
        for recipe, ratio, power in track(runs, f"{task}, dense {base:.2f}", console=console):
            compressed = copy.deepcopy(model)
            options = RECIPES[recipe] | ({} if power is None else {"exponent": power})
            report = lpcompress.compress(compressed, ratio=ratio, tokenizer=tokenizer, **options)
            logits = run(compressed, batches)
            results.append(
                {
                    "task": task,
                    "recipe": recipe if power is None else f"{recipe} {power:g}",
                    "ratio": ratio,
                    "n": len(labels),
                    "base": base,
                    "drop": base - score(task, logits, labels),
                    "logits_moved": float(np.abs(logits - dense).mean() / dense.std()),
                    "removed": report.layers[0].removed,
                    "method": report.layers[0].method,
                    "seconds": report.layers[0].seconds,
                }
            )
            if args.out:
                args.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    Console(width=140).print(as_table(results, tasks))


def as_table(results: list[dict], tasks: list[str]) -> Table:
    """Return one line a ratio and recipe: drops by task, their mean and its standard error over tasks."""
    table = Table("removed", "recipe", *tasks, "mean drop", "logits moved", "fit s")
    for ratio, recipe in dict.fromkeys((each["ratio"], each["recipe"]) for each in results):
        chosen = [each for each in results if (each["ratio"], each["recipe"]) == (ratio, recipe)]
        drops = [each["drop"] for each in chosen]
        moved = np.mean([each["logits_moved"] for each in chosen])
        seconds = np.median([each["seconds"] for each in chosen])
        cells = [f"{drop:.1f}" for drop in drops]
        table.add_row(f"{ratio:.0%}", recipe, *cells, f"{np.mean(drops):.2f}", f"{moved:.3f}", f"{seconds:.1f}")
    return table


if __name__ == "__main__":
    main()
