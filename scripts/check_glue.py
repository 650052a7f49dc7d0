"""Score dense models with a plain loop that shares no code with lpcompress, and compare with eval-glue.

    python scripts/check_glue.py --data DIR --models DIR [--tasks mrpc stsb] [--limit 500]

The directory of --models holds one fine-tuned classifier per task (mrpc, ...), that of --data <task>/<split>.parquet.
Batches are the same 32 rows of similar length as in eval-glue, because padding changes the last digits of a
floating-point sum. Exits with 1 if any metric differs in any digit.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow.parquet
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import AutoModelForSequenceClassification, AutoTokenizer

CLASSIFICATION = {"accuracy": accuracy_score}
TASKS = {  # task -> text columns, metrics
    "cola": (["sentence"], {"matthews": matthews_corrcoef}),
    "sst2": (["sentence"], CLASSIFICATION),
    "mrpc": (["sentence1", "sentence2"], CLASSIFICATION | {"f1": f1_score}),
    "stsb": (["sentence1", "sentence2"], {"pearson": pearsonr, "spearman": spearmanr}),
    "qqp": (["question1", "question2"], CLASSIFICATION | {"f1": f1_score}),
    "qnli": (["question", "sentence"], CLASSIFICATION),
    "rte": (["sentence1", "sentence2"], CLASSIFICATION),
    "wnli": (["sentence1", "sentence2"], CLASSIFICATION),
}


def plain_scores(task: str, data: Path, models: Path, limit: int | None) -> dict[str, float]:
    """Return the metrics of a dense model, in points."""
    columns, metrics = TASKS[task]
    rows = pyarrow.parquet.read_table(data / task / "validation.parquet").slice(0, limit).to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(models / task)
    model = AutoModelForSequenceClassification.from_pretrained(models / task).eval()
    encoded = [tokenizer(*(row[name] for name in columns), truncation=True, max_length=128) for row in rows]
    outputs = np.zeros((len(rows), model.config.num_labels), dtype=np.float32)
    waiting = sorted(range(len(rows)), key=lambda i: (-len(encoded[i]["input_ids"]), i))
    while waiting:
        batch, waiting = waiting[:32], waiting[32:]
        if model.config.model_type == "xlnet":  # it averages over padding, so batches must have none
            same = [i for i in batch if len(encoded[i]["input_ids"]) == len(encoded[batch[0]]["input_ids"])]
            batch, waiting = same, [i for i in batch if i not in same] + waiting
        features = tokenizer.pad([encoded[i] for i in batch], return_tensors="pt")
        with torch.no_grad():
            outputs[batch] = model(**features).logits.numpy()
    labels = np.array([row["label"] for row in rows])
    if model.config.num_labels == 1:
        return {name: 100 * float(metric(outputs[:, 0].astype(float), labels)[0]) for name, metric in metrics.items()}
    return {name: 100 * float(metric(labels, outputs.argmax(axis=1))) for name, metric in metrics.items()}


def main() -> None:
    """Score both ways and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="default: all tasks with a model")
    parser.add_argument("--limit", type=int, help="rows per task")
    args = parser.parse_args()
    tasks = args.tasks or [task for task in TASKS if (args.models / task).is_dir()]
    command = [sys.executable, "-m", "lpcompress", "eval-glue", f"{args.models}/{{task}}", "--tasks", ",".join(tasks)]
    command += [
        "--data",
        str(args.data),
        "--json",
        "--device",
        "cpu",
        *(["--limit", str(args.limit)] * bool(args.limit)),
    ]
    ours = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["tasks"]
    differ = False
    for task in tasks:
        for name, value in plain_scores(task, args.data, args.models, args.limit).items():
            found = ours[task]["metrics"][name]
            differ |= found != value
            print(f"{task:6}{name:10}{value:22.16f}{found:22.16f}  {'equal' if found == value else 'DIFFERENT'}")
    sys.exit(differ)


if __name__ == "__main__":
    main()
