"""Compress a tiny random model of every architecture of transformers, and compare what was written with what was meant.

For each class of each architecture: compress all layers, the embedding included, as the command does, load the result
with plain `from_pretrained`, multiply it out with `densify`, and compare the outputs of all three. That is done by the
first method for all classes, and by the others for the last class, which has a head. Prints a row for each architecture
and exits with 1 if any is a FAULT: a result that differs or cannot run, a traceback, a hang.

    python scripts/check_architectures.py --json architectures.json --markdown architectures.md
    python scripts/check_architectures.py --only "bert*" "t5"

Architectures that the JSON file has already are not checked again, so that a run can be continued.
"""

import argparse
import copy
import fnmatch
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tiny_models import classes_of, model_types, tiny_config, tiny_model

from lpcompress.checkpoints import densifying, saving
from lpcompress.checkpoints.loading import load
from lpcompress.checkpoints.outputs import outputs_of, same_outputs
from lpcompress.checkpoints.verification import WAY_OUT, Probe
from lpcompress.compression import whole_model
from lpcompress.config.plan import Plan
from lpcompress.errors import LpCompressError
from lpcompress.surgery.offloading import all_in_memory

METHODS: dict[str, dict[str, Any]] = {
    "svd": {"method": "svd"},
    "messi": {"method": "messi", "clusters": 2},  # not as many as fit best, which takes long to find
    "default": {},
}
HEADING = """# Architectures

Tiny random models of every type that the automatic classes of transformers {version} know, compressed, loaded and
multiplied out: `python scripts/check_architectures.py --json cases.json --markdown docs/architectures.md`, which says
what the outcomes are.
"""
TOLERANCE = 1e-3  # of the largest output
FAULT, CAUGHT, RUNS, LOADS, REFUSED, UNBUILT = "FAULT", "caught", "runs", "loads", "refused", "not built"
WORST_FIRST = (FAULT, CAUGHT, RUNS, LOADS, REFUSED, UNBUILT)


@dataclass(frozen=True)
class Case:
    """What one compression came to.

    Attributes
    ----------
    model : str
        Class of the model.
    method : str
    outcome : str
        FAULT; caught (the check before exit 0 found a fault); runs (all outputs agree); loads (all tensors agree, but
        no inputs are known with which the dense model runs); refused; not built (transformers could not).
    reason : str
    """

    model: str
    method: str
    outcome: str
    reason: str = ""


def check(model_type: str, methods: list[str]) -> Iterator[Case]:
    """Yield the cases of one architecture."""
    try:
        config = tiny_config(model_type)
    except Exception as error:  # anything at all
        yield Case(model_type, "", UNBUILT, one_line(error))
        return
    names = classes_of(model_type)
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            dense = Path(scratch, "dense")
            try:
                model = tiny_model(name, copy.deepcopy(config))
                probe = Probe.of(model)
                model.save_pretrained(dense)
                again = type(model).from_pretrained(dense)
                if probe.inputs:  # drawn numbers in a model, or a lossy format, are no fault of the compression
                    require_equal(outputs_of(model, probe.inputs), outputs_of(again, probe.inputs), "reloaded dense")
            except Exception as error:  # the fault of transformers, or of the shrunk configuration
                yield Case(name, "", UNBUILT, one_line(error))
                continue
            for method in methods if name == names[-1] else methods[:1]:
                plan = Plan(layers=["all"], **METHODS[method])
                yield Case(name, method, *attempt(dense, Path(scratch), type(model), plan))


def attempt(dense: Path, scratch: Path, cls: Any, plan: Plan) -> tuple[str, str]:
    """Return the outcome of one compression, and a reason if there is one."""
    out, plain = scratch / "out", scratch / "plain"
    try:
        try:
            model, _ = load(str(dense), on_disk=True)
            probe = Probe.of(model)
            whole_model.compress(model, plan)
            saving.save(model, None, out, overwrite=True, source=str(dense), probe=probe)
        except LpCompressError as error:
            reason = str(error)
            return (CAUGHT if WAY_OUT in reason else REFUSED), reason.replace(f" {WAY_OUT}", "")
        reloaded = cls.from_pretrained(out)
        densifying.densify(out, plain, overwrite=True)  # which compares the outputs of the two
        cls.from_pretrained(plain)
        if not probe.inputs:
            return LOADS, ""
        with all_in_memory(model):  # not all architectures run while their tensors are kept on disk
            expected = outputs_of(model, probe.inputs)
        require_equal(expected, outputs_of(reloaded, probe.inputs), "reloaded")
    except Exception as error:  # nothing may be raised after the refusals above
        place = traceback.extract_tb(error.__traceback__)[-1]
        return FAULT, f"{one_line(error)} ({Path(place.filename).name}:{place.lineno})"
    return RUNS, ""


def require_equal(expected: list[torch.Tensor], found: list[torch.Tensor], what: str) -> None:
    """Raise ValueError unless the outputs agree."""
    if not same_outputs(expected, found, TOLERANCE):
        raise ValueError(f"the {what} model gives other outputs")


def one_line(error: Exception) -> str:
    """Return the class and the message of an exception in one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:240]


def in_a_fork(model_type: str, methods: list[str], timeout: float) -> list[Case]:
    """Check one architecture in a fork of this process, so that a crash or a hang is a case as well."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=send_cases, args=(model_type, methods, sender))
    child.start()
    sender.close()
    cases: list[Case] = []
    try:
        while receiver.poll(timeout):
            cases.append(receiver.recv())
        cases.append(Case(model_type, "", FAULT, f"no answer in {timeout:g} s"))
    except EOFError:
        child.join()
        if child.exitcode:
            cases.append(Case(model_type, "", FAULT, f"ended with {child.exitcode}"))
    child.kill()
    child.join()
    return cases


def send_cases(model_type: str, methods: list[str], sender: Any) -> None:
    """Send every case as it is finished."""
    for case in check(model_type, methods):
        sender.send(case)


def summary(cases: list[Case]) -> tuple[str, str]:
    """Return the worst outcome of an architecture, and the reasons for everything that does not run."""
    outcome = next((each for each in WORST_FIRST if any(case.outcome == each for case in cases)), UNBUILT)
    reasons = dict.fromkeys(f"{case.outcome}: {case.reason}" for case in cases if case.reason)
    return outcome, " | ".join(reasons)


def read(file: Path | None) -> dict[str, list[Case]]:
    """Return the cases of an earlier run by architecture; none without a file."""
    if file is None or not file.exists():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))
    return {name: [Case(**case) for case in cases] for name, cases in rows.items()}


def page(found: dict[str, list[Case]]) -> str:
    """Return the page for docs/: how many there are of each outcome, and a row for each architecture."""
    rows = {name: summary(cases) for name, cases in found.items()}
    counts = Counter(outcome for outcome, _ in rows.values())
    lines = [HEADING.format(version=transformers.__version__), "| outcome | architectures |", "|---|---|"]
    lines += [f"| {outcome} | {counts[outcome]} |" for outcome in WORST_FIRST if counts[outcome]]
    lines += ["", "| architecture | outcome | reasons |", "|---|---|---|"]
    lines += [f"| {name} | {outcome} | {reasons.replace('|', '/')} |" for name, (outcome, reasons) in rows.items()]
    return "\n".join(lines) + "\n"


def quiet() -> None:
    """Silence what libraries print about tiny random models."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)


def main() -> None:
    """Check the architectures that the arguments select."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PATTERN", default=["*"], help="types of models, such as 'bert*'")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every case to FILE, and continue it")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page for docs/ to FILE")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one compression")
    args = parser.parse_args()
    quiet()
    chosen = [each for each in model_types() if any(fnmatch.fnmatchcase(each, pattern) for pattern in args.only)]
    found = read(args.json)
    for model_type in chosen:
        if model_type not in found:
            found[model_type] = in_a_fork(model_type, args.methods, args.timeout)
            if args.json:
                rows = {name: [asdict(case) for case in cases] for name, cases in found.items()}
                args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        outcome, reasons = summary(found[model_type])
        print(f"{model_type:28} {outcome:10} {reasons}", flush=True)
    found = {name: found[name] for name in chosen}
    if args.markdown:
        args.markdown.write_text(page(found), encoding="utf-8")
    counts = Counter(summary(cases)[0] for cases in found.values())
    print(", ".join(f"{counts[outcome]} {outcome}" for outcome in WORST_FIRST if counts[outcome]))
    sys.exit(bool(counts[FAULT]))


if __name__ == "__main__":
    main()
