"""Kill commands at random moments; check that nothing looks finished that is not, and that the next run tidies up.

    python scripts/torture_kills.py --data DIR [--kills 100] [--seed 0] [--out kills.json]

--data is a GLUE directory with RTE, such as tests/data/glue. Each kill has a directory and a TMPDIR of its own. A run
is forked from this process, which has imported everything, so that moments fall into the work and not into imports.
Every second kill waits until the run has begun to write its result. After each kill:

- a checkpoint or results file that can be seen is, byte for byte, that of an undisturbed run (or the one to replace);
- the same command, repeated to the end, gives the same result as an undisturbed run;
- then there is nothing else in the directory and nothing in TMPDIR.

Exits with 1 if any of that fails.
"""

import argparse
import atexit
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import datasets  # noqa: F401  (imported for the runs)
import evaluate  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, Trainer  # noqa: F401

from lpcompress.cli import app

WORDS = 2000
TIMES = re.compile(r'"(date|seconds|peak_rss_bytes|out|report)": [^,\n}]+')  # differ from run to run
LONGEST = 300  # seconds of a run that is not killed


@dataclass(frozen=True)
class Run:
    """A command to be killed.

    Attributes
    ----------
    name : str
    options : tuple of str
        Of the command; SOURCE and DATA stand for the paths.
    result : str
        What it writes: `out`, a directory, or `out.json`.
    again : str
        Option that makes the command continue, or replace its result.
    prepare : callable
        Called with the result's path before the run.
    """

    name: str
    options: tuple[str, ...]
    result: str
    again: str
    prepare: Callable[[Path, Path], object] = lambda out, source: None


COMPRESS = ("compress", "SOURCE", "--method", "svd", "--layers", "all", "--row-weights", "uniform")
FINETUNE = ("finetune", "SOURCE", "--task", "rte", "--data", "DATA", "--split", "validation", "--max-steps", "5")
EVALUATE = ("eval-glue", "SOURCE", "--tasks", "rte", "--data", "DATA", "--methods", "svd,messi", "--ratio", "0.3")
RUNS = (
    Run("compress", COMPRESS, "out", "--overwrite"),
    Run("compress, empty directory", COMPRESS, "out", "--overwrite", lambda out, _: out.mkdir()),
    Run(
        "compress --overwrite", (*COMPRESS, "--overwrite"), "out", "", lambda out, source: shutil.copytree(source, out)
    ),
    Run("eval-glue --resume", (*EVALUATE, "--device", "cpu", "--resume"), "out.json", ""),
    Run("finetune --resume", (*FINETUNE, "--device", "cpu", "--resume"), "out", "--overwrite"),
)


def main() -> None:
    """Kill each command in turn and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    draw = random.Random(args.seed)
    home = Path(tempfile.mkdtemp())  # a TemporaryDirectory would be removed by every forked process
    try:
        start(lambda: make_checkpoint(home / "source"), home).wait()
        references = {run.name: undisturbed(run, home, args.data) for run in RUNS}
        found = []
        for number in range(args.kills):
            run = RUNS[number % len(RUNS)]
            found.append({"run": run.name, **killed(run, home, args.data, draw, number, *references[run.name])})
    finally:
        shutil.rmtree(home)
    show(found)
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(each["faults"] for each in found))


def make_checkpoint(target: Path) -> None:
    """Write a random classifier with a tokenizer."""
    core = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1} | {f"word{i}": i + 2 for i in range(WORDS - 2)}, "[UNK]")
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(target)
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 128}
    names = {"id2label": {0: "entailment", 1: "not_entailment"}, "label2id": {"entailment": 0, "not_entailment": 1}}
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=WORDS, **sizes, **names))
    with torch.no_grad():
        for tensor in model.parameters():  # so that predictions differ from row to row
            tensor.add_(0.3 * torch.randn(tensor.shape))
    model.save_pretrained(target)


@dataclass(frozen=True)
class Process:
    """A forked process."""

    number: int

    def wait(self) -> int:
        """Return the exit code, -9 if it was killed."""
        return os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])

    def kill(self) -> int:
        """Kill it as `kill -9` does, unless it has ended; return the exit code."""
        os.kill(self.number, signal.SIGKILL)
        return self.wait()


def start(work: Callable[[], object], place: Path) -> Process:
    """Call `work` in a forked process that writes what it prints to a file."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            log = os.open(place / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            signal.alarm(LONGEST)
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            atexit._run_exitfuncs()
            os._exit(code)
    return Process(number)


def command(run: Run, home: Path, place: Path, data: Path, *more: str) -> Process:
    """Start a command whose result, log and TMPDIR are in `place`."""
    paths = {"SOURCE": str(home / "source"), "DATA": str(data.resolve())}
    words = [*(paths.get(word, word) for word in run.options), "--out", str(place / "here" / run.result), *more]

    def work() -> None:
        tempfile.tempdir = str(place / "tmp")
        sys.argv = ["lpcompress", *words]
        app.main()

    return start(work, place)


def new_place(run: Run, home: Path, name: str) -> Path:
    """Return a directory with an empty TMPDIR and what is there before the run."""
    place = home / name
    for each in ("here", "tmp"):
        (place / each).mkdir(parents=True)
    run.prepare(place / "here" / run.result, home / "source")
    return place


def undisturbed(run: Run, home: Path, data: Path) -> tuple[dict[str, str], float]:
    """Return the result of a run that is not killed, and its seconds."""
    place, began = new_place(run, home, f"reference-{RUNS.index(run)}"), time.perf_counter()
    code = command(run, home, place, data).wait()
    if code:
        sys.exit(f"{run.name} ends with {code}: {(place / 'log.txt').read_text()}")
    return content(place / "here"), time.perf_counter() - began


def content(directory: Path) -> dict[str, str]:
    """Return what is in a directory: path -> text without times, or digest."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            name = str(path.relative_to(directory))
            text = path.suffix in (".json", ".md")
            found[name] = TIMES.sub("", data.decode()) if text else str(hash(data))
    return found


def killed(
    run: Run, home: Path, data: Path, draw: random.Random, number: int, expected: dict[str, str], seconds: float
) -> dict[str, object]:
    """Kill a run once, look at what is there, repeat it, and look again; return the moment and all faults."""
    place = new_place(run, home, str(number))
    here = place / "here"
    before = content(here)
    process, began = command(run, home, place, data), time.perf_counter()
    if number // len(RUNS) % 2:
        while not is_writing(here) and time.perf_counter() - began < seconds:
            time.sleep(0.0005)
        time.sleep(draw.uniform(0, 0.05))
    else:
        time.sleep(draw.uniform(0, seconds))
    moment, code = time.perf_counter() - began, process.kill()
    faults = []
    seen = {name: text for name, text in content(here).items() if not hidden(name)}
    finished = (here / run.result / "config.json" if run.result == "out" else here / run.result).exists()
    ours = {name: text for name, text in expected.items() if not hidden(name)}
    if finished and seen not in (ours, before):
        faults.append("looks finished and is not")
    state = "finished" if finished and seen == ours else "old" if finished else "nothing" if not seen else "partial"
    again = [run.again] if run.again and finished else []
    if command(run, home, place, data, *again).wait():
        faults.append("cannot be repeated")
    after = content(here)
    if {name: text for name, text in after.items() if name in expected} != expected:
        faults.append("repeated with another result")
    if after.keys() - expected.keys() or any(".lpcompress" in each.name for each in here.rglob(".*")):
        faults.append("leaves files behind")
    if [*(place / "tmp").iterdir()]:
        faults.append("leaves temporary files behind")
    if faults:
        differing = [name for name in sorted({*after, *expected}) if after.get(name) != expected.get(name)]
        print(run.name, number, faults, differing, (place / "log.txt").read_text()[-2000:])
    shutil.rmtree(place)
    return {"seconds": round(moment, 3), "killed": code == -signal.SIGKILL, "state": state, "faults": faults}


def is_writing(here: Path) -> bool:
    """Return whether a result is being written: the check before the work is over in a moment."""
    return any((each / "new").exists() for each in (*here.glob(".*.lpcompress"), here / "out" / ".lpcompress"))


def hidden(name: str) -> bool:
    """Return whether a file is a command's own: in a workspace, a finished part, or a state to resume from."""
    return any(each.startswith(".") or each.endswith((".parts", ".training")) for each in Path(name).parts)


def show(found: list[dict[str, object]]) -> None:
    """Print a table of what the kills came to."""
    table = Table("command", "kills", "ended before", "left nothing", "partial", "old", "finished", "faults")
    for run in RUNS:
        rows = [each for each in found if each["run"] == run.name]
        states = Counter(each["state"] for each in rows)
        numbers = [len(rows), sum(not each["killed"] for each in rows)]
        numbers += [states[name] for name in ("nothing", "partial", "old", "finished")]
        table.add_row(run.name, *map(str, numbers), str(sum(bool(each["faults"]) for each in rows)))
    Console().print(table)


if __name__ == "__main__":
    main()
