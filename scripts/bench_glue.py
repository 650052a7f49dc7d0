"""Compare the speed of eval-glue with Trainer.evaluate padded to 128, and measure its peak memory as the data grows.

    python scripts/bench_glue.py --data DIR --models DIR --threads 2

For the speed, both tokenise and score the same rows with the same model and batch size, in turn. For the memory, each
number of rows (of QQP, which has 40,430) has its own process and a model of one small layer, because the memory of the
weights does not depend on the data.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from lpcompress.evaluation.prediction import MAX_LENGTH, encode, logits
from lpcompress.glue.data import load_rows
from lpcompress.glue.tasks import TASKS
from lpcompress.processes import Workers

BATCH_SIZE = 32


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def throughput(args: argparse.Namespace) -> Table:
    """Return a table of rows per second, medians over the repeats."""
    task = TASKS[args.task]
    rows = load_rows(task, task.splits[0], args.data, args.limit)
    model = AutoModelForSequenceClassification.from_pretrained(args.models / args.task).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.models / args.task)
    workers = Workers("cpu")

    def ours() -> None:
        logits(model, encode(tokenizer, rows, BATCH_SIZE), workers)

    def trainer() -> None:
        encoded = tokenizer(*map(list, rows.texts), truncation=True, padding="max_length", max_length=MAX_LENGTH)
        labels = np.asarray(rows.labels, dtype=np.float32 if task.n_outputs == 1 else np.int64)
        with TemporaryDirectory() as folder:
            settings = TrainingArguments(
                folder, per_device_eval_batch_size=BATCH_SIZE, report_to=[], use_cpu=True, disable_tqdm=True
            )
            table = datasets.Dataset.from_dict({**encoded, "label": labels})
            Trainer(model, settings, eval_dataset=table).evaluate()

    times: dict[str, list[float]] = {"Trainer.evaluate, padded to 128": [], "eval-glue": []}
    for _ in range(args.repeats):
        for name, work in zip(times, (trainer, ours), strict=True):
            times[name].append(seconds(work))
    table = Table("", "rows/s", "times faster", title=f"{args.task}, {len(rows):,} rows, {args.threads} threads")
    plain = statistics.median(times["Trainer.evaluate, padded to 128"])
    for name, found in times.items():
        median = statistics.median(found)
        table.add_row(name, f"{len(rows) / median:.0f}", f"{plain / median:.2f}")
    return table


def memory(args: argparse.Namespace) -> Table:
    """Return a table of the peak memory of evaluating QQP, in one process per number of rows."""
    table = Table("rows of QQP", "peak memory, MB")
    for rows in args.rows:
        command = [sys.executable, __file__, "--data", str(args.data), "--models", str(args.models)]
        command += ["--threads", str(args.threads), "--peak", str(rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        table.add_row(f"{rows:,}", f"{int(done.stdout) / 1e6:,.0f}")
    return table


def peak(args: argparse.Namespace) -> int:
    """Evaluate `args.peak` rows of QQP and return the peak memory of this process, in bytes (Linux)."""
    rows = load_rows(TASKS["qqp"], "validation", args.data, args.peak)
    tokenizer = AutoTokenizer.from_pretrained(args.models / "qqp")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **sizes)).eval()
    logits(model, encode(tokenizer, rows, BATCH_SIZE), Workers("cpu"))
    # not ru_maxrss, which starts at the peak of the parent process
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--task", default="mrpc", choices=TASKS)
    parser.add_argument("--limit", type=int, default=400, help="rows for the speed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="*", default=[1000, 10000, 40430], help="rows of QQP for the memory")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak:
        print(peak(args))
        return
    console = Console()
    console.print(throughput(args))
    if args.rows:
        console.print(memory(args))


if __name__ == "__main__":
    main()
