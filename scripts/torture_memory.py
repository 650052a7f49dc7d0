"""Compress and fine-tune many times in one process; check that memory, file descriptors and threads stay flat.

    python scripts/torture_memory.py --data DIR [--compressions 200] [--finetunes 15] [--out memory.json]

--data is a GLUE directory with RTE, such as tests/data/glue. The checkpoint is random and tiny, so that what is not
given back shows. The first half of the runs is left out: libraries fill their caches then. The slope of the
least-squares line through the rest is compared with what a run may keep; exits with 1 if it is more.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from transformers.utils import logging

from lpcompress.checkpoints import loading, saving
from lpcompress.compression.whole_model import compress
from lpcompress.finetuning.run import finetune

WORDS = 5000
METHODS = ("svd", "messi", "coded", "adaptive")
ALLOWED = {"memory": 0.05, "descriptors": 0.01, "threads": 0.01, "files": 1e-6}
"""Growth a run, memory in MB. The slope of equal numbers, as fitted, is not quite 0."""
ALLOWED_FINETUNE = ALLOWED | {"memory": 0.5}  # fifteen runs are too few for a finer measure


def main() -> None:
    """Run both commands' functions many times and print how much each run keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--compressions", type=int, default=200)
    parser.add_argument("--finetunes", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tempfile.tempdir = str(home / "tmp")
        (home / "tmp").mkdir()
        make_checkpoint(home / "source")
        measured = {
            "compress": repeated(lambda number: once_compressed(home, number), args.compressions, home),
            "finetune": repeated(lambda _: once_tuned(home, args.data), args.finetunes, home),
        }
        tempfile.tempdir = None
    slopes = {name: {key: slope(values) for key, values in series.items()} for name, series in measured.items()}
    allowed = {"compress": ALLOWED, "finetune": ALLOWED_FINETUNE}
    show(measured, slopes, allowed)
    if args.out:
        document = {"measured": measured, "slopes": slopes, "allowed": allowed}
        args.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(slopes[name][key] > allowed[name][key] for name in slopes for key in allowed[name]))


def make_checkpoint(target: Path) -> None:
    """Write a random classifier with a tokenizer."""
    core = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1} | {f"word{i}": i + 2 for i in range(WORDS - 2)}, "[UNK]")
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(target)
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 128}
    names = {"id2label": {0: "entailment", 1: "not_entailment"}, "label2id": {"entailment": 0, "not_entailment": 1}}
    BertForSequenceClassification(BertConfig(vocab_size=WORDS, **sizes, **names)).save_pretrained(target)


def once_compressed(home: Path, number: int) -> None:
    """Load, compress and save; every second time with the tensors on disk."""
    model, tokenizer = loading.load(str(home / "source"), on_disk=bool(number % 2))
    method = METHODS[number // 2 % len(METHODS)]
    compress(model, method=method, ratio=0.3, tokenizer=tokenizer)
    saving.save(model, tokenizer, home / "out", overwrite=True, source=str(home / "source"))


def once_tuned(home: Path, data: Path) -> None:
    """Fine-tune a compressed checkpoint for a few steps."""
    where = {"data": data, "split": "validation", "device": "cpu", "overwrite": True}
    finetune(home / "out", "rte", home / "tuned", max_steps=3, **where)


def repeated(work: Callable[[int], object], times: int, home: Path) -> dict[str, list[float]]:
    """Call `work` many times; return what was in use after each."""
    series: dict[str, list[float]] = {key: [] for key in ALLOWED}
    for number in range(times):
        with warnings.catch_warnings(action="ignore"):
            work(number)
        for key, value in in_use(home).items():
            series[key].append(value)
    return series


def in_use(home: Path) -> dict[str, float]:
    """Return the resident memory in MB, and the numbers of open files, threads and files on disk."""
    gc.collect()  # models with hooks are cycles
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "files": sum(1 for _ in home.rglob("*")),
    }


def slope(values: list[float]) -> float:
    """Return the growth a run, after the first half."""
    steady = values[len(values) // 2 :]
    return float(np.polyfit(range(len(steady)), steady, 1)[0]) if len(steady) > 1 else 0.0


def show(
    measured: dict[str, dict[str, list[float]]],
    slopes: dict[str, dict[str, float]],
    allowed: dict[str, dict[str, float]],
) -> None:
    """Print a table."""
    table = Table("command", "runs", "in use", "first", "half-way", "last", "growth a run", "allowed")
    for name, series in measured.items():
        for key, values in series.items():
            shown = (values[0], values[len(values) // 2], values[-1])
            numbers = [f"{value:.1f}" for value in shown] + [f"{slopes[name][key]:.4f}", f"{allowed[name][key]:g}"]
            table.add_row(name, str(len(values)), key, *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
