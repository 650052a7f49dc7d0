"""Paper 2: 40 % of the embedding removed, then two epochs of fine-tuning, the same for each method.

    python scripts/reproduce_paper2.py --models MODELS_DIR --data GLUE_DIR --out results.json

Maalouf, Lang, Rus, Feldman, "Deep Learning Meets Projective Clustering", ICLR 2021. MODELS_DIR holds one fine-tuned
classifier per task (MODELS_DIR/mrpc, ...), GLUE_DIR <task>/<split>.parquet. `messi` is the paper's "ensemble": it is
trained with several numbers of clusters, and the one with the best score on the *training* rows is evaluated. The dense
model is trained for the same two epochs: if training alone changes the score, a drop from the dense model before it
says nothing about compression. The paper's figures are printed below the table.

The same with half of the whole model removed, and one epoch of distillation from the dense model:

    python scripts/reproduce_paper2.py --models MODELS_DIR --data GLUE_DIR --target-size 0.5 --epochs 1 --distill
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console
from rich.table import Table

from lpcompress.checkpoints import loading, saving
from lpcompress.compression.whole_model import compress
from lpcompress.config.recipe import PRECISIONS
from lpcompress.finetuning.run import finetune

METHODS: dict[str, dict[str, Any]] = {
    "svd": {"method": "svd", "row_weights": "uniform"},
    "messi": {"method": "messi", "row_weights": "uniform"},
    "adaptive": {"method": "adaptive"},
    "coded": {"method": "coded"},
}
NOTES = """\
Published, mean drop after two epochs: DistilBERT, nine tasks, 40 %: messi 0.5, SVD 2.8. RoBERTa: messi below 0.8 at
43 %, SVD 3 at 40 %. Differences: models of 6 layers and width 384 (one family of weights, MiniLM's), the tasks that
have one, drops in points instead of relative ones, our own learning rate and batch size (the paper states none).
Row weights: uniform for svd and messi, as in the paper; this package's token prior for adaptive and coded.
Drop: score of the dense model before this training, minus that of the compressed one after it."""


def run(task: str, options: dict[str, Any] | None, args: argparse.Namespace) -> dict[str, Any]:
    """Compress a task's model (unless `options` is None), train it, and return the record of the run."""
    with tempfile.TemporaryDirectory() as directory:
        source = args.models / task
        if options:
            model, tokenizer = loading.load(str(source))
            size = {"target_size": args.target_size, "layers": ["all"]} if args.target_size else {"ratio": args.ratio}
            compress(model, **size, tokenizer=tokenizer, seed=args.seed, **options)
            source = Path(directory) / "compressed"
            saving.save(model, tokenizer, source)
        split = "train" if (args.data / task / "train.parquet").exists() else "train_subset"
        done = finetune(
            source,
            task,
            Path(directory) / "tuned",
            data=args.data,
            split=split,
            train_limit=args.train_limit,
            limit=args.limit,
            epochs=args.epochs,
            max_steps=args.max_steps,
            learning_rate=args.learning_rate,
            batch_size=args.batch_size,
            mixed_precision=args.mixed_precision,
            distill=args.models / task if args.distill else None,
            seed=args.seed,
        )
    keys = ("score_before", "score", "train_score", "n", "seconds")
    return {key: done[key] for key in keys} | {"split": split}


def results_of(task: str, args: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Return the records of all methods on a task; for messi, that of the number of clusters best on training rows."""
    found = [{"task": task, "method": "dense"} | run(task, None, args)]
    for name in args.methods:
        counts = args.clusters if name == "messi" else [None]
        tried = [run(task, METHODS[name] | {"clusters": count}, args) | {"clusters": count} for count in counts]
        best = max(tried, key=lambda each: each["train_score"])
        scores = {each["clusters"]: round(each["score"], 2) for each in tried}
        found.append({"task": task, "method": name} | best | {"tried": scores if len(tried) > 1 else {}})
    base = found[0]["score_before"]
    for each in found:
        each["base"], each["drop"] = base, base - each["score"]
        console.print(
            f"{task} {each['method']}: drop {each['drop']:.2f}, before training {base - each['score_before']:.2f}"
        )
    return found


def as_table(results: list[dict[str, Any]], args: argparse.Namespace) -> Table:
    """Return a table with one row per method: drop by task, and mean drop before and after training."""
    tasks = list(dict.fromkeys(each["task"] for each in results))
    removed, part = (1 - args.target_size, "whole model") if args.target_size else (args.ratio, "embedding")
    guided = ", distilled from the dense model" if args.distill else ""
    title = f"drop in points: {removed:.0%} of the {part} removed, {args.epochs:g} epochs{guided}"
    table = Table("method", *tasks, "mean drop", "± se over tasks", "mean drop before training", title=title)
    for name in dict.fromkeys(each["method"] for each in results):
        chosen = [each for each in results if each["method"] == name]
        drops = [each["drop"] for each in chosen]
        spread = torch.tensor(drops).std().item() / len(drops) ** 0.5 if len(drops) > 1 else float("nan")
        untuned = mean(each["base"] - each["score_before"] for each in chosen)
        cells = [f"{drop:.2f}" for drop in drops]
        table.add_row(name, *cells, f"{mean(drops):.2f}", f"{spread:.2f}", f"{untuned:.2f}")
    return table


def main() -> None:
    """Run every method on every task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", help="default: all tasks with a model")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--clusters", nargs="+", type=int, default=[2, 3, 5], help="numbers of clusters for messi")
    parser.add_argument("--ratio", type=float, default=0.4, help="share of the embedding's bytes removed")
    parser.add_argument("--target-size", type=float, help="share of the model's bytes to keep, instead of --ratio")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mixed-precision", default="no", choices=PRECISIONS)
    parser.add_argument("--distill", action="store_true", help="distil from the dense model (the paper does not)")
    parser.add_argument("--train-limit", type=int, help="training rows per task")
    parser.add_argument("--limit", type=int, help="development rows per task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file, written after each task")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console, results = Console(stderr=True), []
    for task in args.tasks or sorted(path.name for path in args.models.iterdir() if path.is_dir()):
        results += results_of(task, args, console)
        if args.out:
            args.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    out = Console(width=140)
    out.print(as_table(results, args))
    if not args.target_size:
        out.print(NOTES)


if __name__ == "__main__":
    main()
