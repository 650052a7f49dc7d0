"""Time from Enter to the first word on a terminal, for the commands that are used most.

    python scripts/bench_startup.py [--repeats 5] [--only=--help] [--json FILE]

Each command runs in a pseudo-terminal of 100 columns, in a new interpreter, in a directory with a tiny checkpoint,
compressed and not. What counts is the first visible character: codes that move the cursor are no output. Beside that
time stand the time until the command ended and its CPU seconds (user and system), which say how much of a time is due
to other work of the machine. Files come from the system's cache, and the Hub is not asked (HF_HUB_OFFLINE).
"""

import argparse
import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

TINY, SMALL = "tiny", "small"  # names of the checkpoints
COMMANDS = {  # -> seconds until the first word, at most
    "--help": 0.5,
    "compress --help": 0.5,
    "compress tiny --ratoi 0.5": 0.5,
    "compress org/no-such-model": 0.5,
    "eval-glue": 0.5,
    "compress tiny --out again --overwrite": 2.0,
    "inspect small": 2.0,
    "advise tiny": 2.0,
    "doctor": 2.0,
}
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
ROWS, COLUMNS = 40, 100
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TERM": "xterm"}


@dataclass(frozen=True)
class Timing:
    """Seconds of a run: until the first word, until its end, and of the CPU."""

    first: float
    whole: float
    cpu: float


def run(command: list[str], directory: Path) -> Timing:
    """Run a command in a pseudo-terminal and return its times."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    began, written, first = time.perf_counter(), b"", 0.0
    process = subprocess.Popen(
        command, stdin=inside, stdout=inside, stderr=inside, cwd=directory, env=os.environ | ENVIRONMENT
    )
    os.close(inside)
    with suppress(OSError):  # what Linux raises when the other end is closed
        while part := os.read(terminal, 1 << 16):
            written += part
            if not first and ESCAPES.sub(b"", written).strip():
                first = time.perf_counter() - began
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    os.close(terminal)
    return Timing(first, time.perf_counter() - began, used.ru_utime + used.ru_stime)


def make_checkpoints(directory: Path) -> None:
    """Write a tiny checkpoint and its compressed form."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer
    from transformers.utils import logging

    import lpcompress  # with torch, here alone

    logging.disable_progress_bar()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(995))]
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    model = BertForSequenceClassification(BertConfig(vocab_size=len(words), **sizes))
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    for name in (TINY, SMALL):
        if name == SMALL:
            lpcompress.compress(model, ratio=0.5, tokenizer=tokenizer)
        model.save_pretrained(directory / name)
        tokenizer.save_pretrained(directory / name)


def main() -> None:
    """Time the commands and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each command, default: %(default)s")
    parser.add_argument("--only", choices=COMMANDS, action="append", help="commands to time, default: all")
    parser.add_argument("--json", type=Path, help="file for the times")
    args = parser.parse_args()
    load, found = os.getloadavg()[0], {}
    chosen = args.only or list(COMMANDS)
    with tempfile.TemporaryDirectory() as folder:
        if {TINY, SMALL} & set(" ".join(chosen).split()):
            make_checkpoints(Path(folder))
        for command in chosen:
            words = [sys.executable, "-m", "lpcompress", *shlex.split(command)]
            runs = [run(words, Path(folder)) for _ in range(args.repeats)]
            found[command] = {key: median(asdict(each)[key] for each in runs) for key in ("first", "whole", "cpu")}
    table = Table("lpcompress ...", title=f"Median of {args.repeats}, seconds; load of the machine {load:.1f} before")
    for heading in ("first word", "wanted", "end", "CPU"):
        table.add_column(heading, justify="right")
    for command, times in found.items():
        cells = (f"{times['first']:.2f}", f"{COMMANDS[command]:g}", f"{times['whole']:.2f}", f"{times['cpu']:.2f}")
        table.add_row(command, *cells)
    Console().print(table)
    if args.json:
        document = {"repeats": args.repeats, "load": load, "cores": os.cpu_count(), "seconds": found}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
