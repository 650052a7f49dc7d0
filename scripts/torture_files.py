"""Damage the files of compressed checkpoints at random, load them, and count what nobody notices.

    python scripts/torture_files.py                            # 10,000 damages, about 20 minutes on one core
    python scripts/torture_files.py --count 500 --out torture.json

Tiny random models are compressed by every method and saved as one weight file and as shards. Each damage is a flipped
bit, another byte or a truncation in one file. The checkpoint and its tokenizer are then loaded in this process, every
fourth time with all tensors left on disk; their outputs are compared to the bit with those of the undamaged files, and
the directory is given to `lpcompress verify`:

    loud      loading fails
    harmless  loads, with the same outputs
    later     loads with other outputs, which verify finds: allowed for what a user may edit
    SILENT    loads with other outputs, and verify finds nothing
    BROKEN    the process would have died, or did not come back within the time limit

Exits with 1 if anything is silent or broken, if outputs differ after damage to weights or to the quantization_config,
or if verify misses a damage that loads.
"""

import argparse
import json
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import tokenizers
import torch
import transformers
from rich.console import Console
from rich.table import Table
from tokenizers import pre_tokenizers

from lpcompress.cli.conversion import Conversion
from lpcompress.compression.verification import verify
from lpcompress.config.plan import Plan
from lpcompress.config.saving import Saving
from lpcompress.errors import LpCompressError
from lpcompress.methods import METHODS

TOKENS, WIDTH = 60, 16
BERT = {"vocab_size": TOKENS, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT |= {"intermediate_size": 24, "max_position_embeddings": 16}
XLNET = {"vocab_size": TOKENS, "d_model": WIDTH, "n_layer": 1, "n_head": 2, "d_inner": 24}
SHARD = "4KB"
KINDS = ("bit", "byte", "truncation")
LIMIT = 20  # seconds for one damage
MEMORY = 16 << 30  # bytes of address space: a number in a config must not take the machine down
TEXTS = ["w5 w6 w7", "w8 [PAD] w9 w30 w31"]
COLUMNS = ("loud", "harmless", "later", "SILENT", "BROKEN")


class Hang(BaseException):
    """A load that took too long; no `except Exception` catches it."""


def make(directory: Path, methods: list[str]) -> list[Path]:
    """Write compressed checkpoints of these methods, single and sharded; return their directories."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *(f"w{i}" for i in range(2, TOKENS))])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")
    made = []
    for family, sizes in {"Bert": BERT, "XLNet": XLNET}.items():
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**sizes, num_labels=3)
        model = getattr(transformers, f"{family}ForSequenceClassification")(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
        dense = directory / family
        model.save_pretrained(dense)
        tokenizer.save_pretrained(dense)
        for method in methods if family == "Bert" else methods[:1]:
            layers = ["linear"] if METHODS[method].needs_training else ["all"]
            for shard in (None, SHARD):
                out = directory / f"{family}-{method}{'-shards' * bool(shard)}"
                plan = Plan(method=method, ratio=0.3, layers=layers)
                Conversion(str(dense), plan).convert(out, Saving(max_shard_size=shard))
                made.append(out)
    return made


def outputs(directory: Path, on_disk: bool) -> list[Any]:
    """Return all that a user of the checkpoint computes: logits, and token ids of texts."""
    with tempfile.TemporaryDirectory() as scratch:
        placement = {"device_map": {"": "disk"}, "offload_folder": scratch} if on_disk else {}
        model = transformers.AutoModelForSequenceClassification.from_pretrained(directory, **placement)
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad():
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    tokens = tokenizer(TEXTS, padding=True)
    return [logits.shape, logits.numpy().tobytes(), {key: list(value) for key, value in tokens.items()}]


@contextmanager
def damaged(file: Path, kind: str, draw: random.Random) -> Iterator[int]:
    """Damage a file while the block runs; yield the position."""
    content = file.read_bytes()
    position = draw.randrange(len(content))
    changed = bytearray(content)
    match kind:
        case "bit":
            changed[position] ^= 1 << draw.randrange(8)
        case "byte":
            changed[position] ^= draw.randrange(1, 256)
        case "truncation":
            del changed[position:]
    file.write_bytes(changed)
    try:
        yield position
    finally:
        file.write_bytes(content)


def outcome(directory: Path, on_disk: bool, expected: list[Any]) -> tuple[str, str]:
    """Load a damaged checkpoint; return the column of the table, and what is to be said of it."""
    signal.alarm(LIMIT)
    try:
        found = outputs(directory, on_disk)
    except Hang:
        return "BROKEN", f"no end within {LIMIT} s"
    except Exception as error:
        return "loud", type(error).__name__ + ("" if isinstance(error, LpCompressError) else " of transformers")
    except BaseException as error:  # a panic in compiled code
        return "BROKEN", repr(error)
    finally:
        signal.alarm(0)
    seen = not _sound(directory)
    if found == expected:
        return "harmless", "" if seen else "unseen by verify"
    return ("later" if seen else "SILENT"), ""


def _sound(directory: Path) -> bool:
    try:
        return verify(directory).sound
    except LpCompressError:
        return False


def part_of(file: Path, before: bytes) -> str:
    """Return what was damaged, as a row of the table."""
    if file.name != "config.json":
        return "weights" if file.suffix == ".safetensors" else file.name
    try:
        old, new = json.loads(before), json.loads(file.read_bytes())
        same = old["quantization_config"] == new.get("quantization_config")
    except (ValueError, AttributeError):
        return "config.json: no JSON"
    return "config.json: other keys" if same else "config.json: quantization_config"


def torture(directories: list[Path], count: int, seed: int) -> dict[str, Any]:
    """Apply `count` damages; return the counts, and a line for each that must not be."""
    draw = random.Random(seed)
    expected = {(each, on_disk): outputs(each, on_disk) for each in directories for on_disk in (False, True)}
    counts: dict[str, Counter[str]] = {}
    kinds: dict[str, Counter[str]] = {}
    errors: Counter[str] = Counter()
    wrong = []
    for number in range(count):
        directory, kind = directories[number % len(directories)], draw.choice(KINDS)
        on_disk = number // len(directories) % 4 == 3
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        weights = [file for file in files if file.suffix == ".safetensors"]
        file = draw.choice(weights if draw.random() < 0.5 else files)
        before = file.read_bytes()
        with damaged(file, kind, draw) as position:
            part = part_of(file, before)
            column, remark = outcome(directory, on_disk, expected[directory, on_disk])
        counts.setdefault(part, Counter())[column] += 1
        kinds.setdefault(kind, Counter())[column] += 1
        errors[remark] += column == "loud"
        strict = part == "weights" or part.endswith("quantization_config") or "index" in part
        if column in ("SILENT", "BROKEN") or remark == "unseen by verify" or (strict and column == "later"):
            wrong.append(f"{directory.name}/{file.name}, {kind} at {position}: {column} {remark}".strip())
        if number % 500 == 499:
            print(f"{number + 1} of {count}, wrong: {len(wrong)}", file=sys.stderr, flush=True)
    held = {"threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd"))}
    held["mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    found = {"parts": counts, "kinds": kinds, "errors": +errors, "wrong": wrong, "held at the end": held}
    return {"count": count, "seed": seed, **found}


def table(found: dict[str, Any]) -> Table:
    """Return the counts as a table."""
    made = Table("damaged", *COLUMNS, title=f"{found['count']:,} damages, seed {found['seed']}", title_justify="left")
    for rows in (found["parts"], found["kinds"]):
        for name in sorted(rows):
            made.add_row(name, *(f"{rows[name][column]:,}" for column in COLUMNS))
        made.add_section()
    return made


def main() -> None:
    """Parse the command line, run, print and exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the counts as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, guarded():
        found = torture(make(Path(folder), arguments.methods), arguments.count, arguments.seed)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    console = Console()
    console.print(table(found))
    for line in found["wrong"]:
        console.print(line, markup=False)
    sys.exit(bool(found["wrong"]))


@contextmanager
def guarded() -> Iterator[None]:
    """Limit time and memory, and silence logs and warnings, while the block runs."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, limits[1]))
    handler = signal.signal(signal.SIGALRM, _hang)
    logging.disable(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _hang(*_: object) -> None:
    raise Hang


if __name__ == "__main__":
    main()
