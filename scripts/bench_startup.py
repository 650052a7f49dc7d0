"""Time from Enter to the first word on a terminal, for the commands that are used most.

    python scripts/bench_startup.py [--repeats 5] [--only "compress --help"] [--json FILE]

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
import sys
import tempfile
import termios
import time
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


@dataclass(frozen=True)
class Timing:
    """Seconds of a run: until the first word, until its end, and of the CPU."""

    first: float
    whole: float
    cpu: float


def run(command: list[str], directory: Path) -> Timing:
    """Run a command in a pseudo-terminal and return its times."""
    began = time.perf_counter()
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(directory)
        os.execv(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written, first = b"", 0.0
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # what Linux says when the other end is closed
            break
        written += part
        if not first and ESCAPES.sub(b"", written).strip():
            first = time.perf_counter() - began
        if not part:
            break
    _, _, used = os.wait4(process, 0)
    os.close(terminal)
    return Timing(first, time.perf_counter() - began, used.ru_utime + used.ru_stime)


def make_checkpoints(directory: Path) -> None:
    """Write a tiny checkpoint and its compressed form."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    import lpcompress  # with torch, here alone

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
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TERM": "xterm"}
    load, found = os.getloadavg()[0], {}
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoints(Path(folder))
        for command in args.only or COMMANDS:
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
