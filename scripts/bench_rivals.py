"""Compare ways to make a classifier smaller at equal bytes: what they do to its logits, its score and its embedding.

    python scripts/bench_rivals.py --data GLUE_DIR --models MODELS_DIR --out results/rivals

MODELS_DIR/ARCH/TASK is a classifier fine-tuned on the task, GLUE_DIR holds <task>/<split>.parquet. Rivals are in
scripts/rivals/table.py. Writes rivals.json, rivals.md, rivals.svg and rivals.png (which need matplotlib: the extra
`plots`) into --out, beside cells.jsonl with the finished cells: a run that was interrupted goes on where it was. To
measure our own rows again: --only ours --again.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from rivals.cells import Cell, Cells
from rivals.examiner import examiners
from rivals.markdown import document
from rivals.rival import SCOPES, Rival
from rivals.rows import rows_of
from rivals.table import FAMILIES, RIVALS

from lpcompress.errors import LpCompressError

SIZES = (0.10, 0.05, 0.025, 0.25, 0.125, 0.07, 0.0125)  # the telling ones first: a run may be cut short


def main() -> None:
    """Measure every cell that is missing, and write the report."""
    args = arguments()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    cells = Cells(args.out / "cells.jsonl")
    wanted = list(grid(args))
    if args.again:
        cells.forget({cell for _, cell in wanted}.__contains__)
    if not args.report:
        measure([(rival, cell) for rival, cell in wanted if cell not in cells.found], cells, args)
    report(cells, [cell for _, cell in wanted], args)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="GLUE")
    parser.add_argument("--models", type=Path, required=True, help="ARCH/TASK: a classifier each")
    parser.add_argument("--arch", default="bert")
    parser.add_argument("--tasks", type=words, help="such as mrpc,sst2; by default " + defaults())
    parser.add_argument("--scopes", type=words, default=tuple(SCOPES), help="of " + ", ".join(SCOPES))
    parser.add_argument("--sizes", type=shares, default=SIZES, help="shares of the bytes, such as 0.1,0.05")
    parser.add_argument("--only", type=words, default=FAMILIES, help="families of rivals, of " + ", ".join(FAMILIES))
    parser.add_argument("--again", action="store_true", help="measure the chosen cells again")
    parser.add_argument("--report", action="store_true", help="measure nothing, only write the report")
    parser.add_argument("--limit", type=int, default=400, help="rows of each task")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/rivals"))
    args = parser.parse_args()
    for option, known in (("scopes", SCOPES), ("only", FAMILIES)):
        unknown = set(getattr(args, option)) - set(known)
        if unknown:
            parser.error(f"--{option} must be of {', '.join(known)}. Got {', '.join(sorted(unknown))}.")
    return args


def words(text: str) -> tuple[str, ...]:
    """Return the words of a list separated by commas."""
    return tuple(text.split(","))


def shares(text: str) -> tuple[float, ...]:
    """Return the numbers of a list separated by commas."""
    return tuple(map(float, text.split(",")))


def defaults() -> str:
    """Return the default tasks of every scope, in words."""
    return "; ".join(f"{name}: {','.join(scope.tasks)}" for name, scope in SCOPES.items())


def grid(args: argparse.Namespace) -> Iterator[tuple[Rival, Cell]]:
    """Yield every rival with every cell, sizes in the order in which they were given; own sizes come first."""
    for size in (None, *args.sizes):
        for name in args.scopes:
            scope = SCOPES[name]
            tasks = args.tasks or scope.tasks
            for rival in RIVALS:
                if rival.family in args.only and name in rival.scopes and rival.sized == (size is not None):
                    for task in tasks if scope.scored else tasks[:1]:
                        yield rival, Cell(name, rival.name, size, task, args.arch, args.limit)


def measure(missing: list[tuple[Rival, Cell]], cells: Cells, args: argparse.Namespace) -> None:
    """Measure the missing cells; one that cannot be had is kept with the reason."""
    by_task = examiners(sorted({cell.task for _, cell in missing}), args.models / args.arch, str(args.data), args.limit)
    for done, (rival, cell) in enumerate(missing, start=1):
        began = time.perf_counter()
        try:
            with warnings.catch_warnings(action="ignore"):
                found = by_task[cell.task].measure(rival, SCOPES[cell.scope], cell.size)
        except LpCompressError as error:
            found = {"reason": str(error)}
        found["seconds"] = round(time.perf_counter() - began, 1)
        cells.keep(cell, found)
        at = "" if cell.size is None else f" at {cell.size:.2%}"
        print(f"{done} of {len(missing)}: {cell.scope}, {rival.name}{at}, {cell.task}: {found}", file=sys.stderr)


def report(cells: Cells, wanted: list[Cell], args: argparse.Namespace) -> None:
    """Write rivals.json, rivals.md and the pictures from all cells of this architecture and limit."""
    missing = sum(cell not in cells.found for cell in wanted)
    rows = rows_of({c: found for c, found in cells.found.items() if (c.arch, c.limit) == (args.arch, args.limit)})
    command = "python scripts/bench_rivals.py --data GLUE_DIR --models MODELS_DIR"
    command += f" --arch {args.arch} --limit {args.limit}"
    (args.out / "rivals.json").write_text(json.dumps(rows.records(), indent=1) + "\n", encoding="utf-8")
    (args.out / "rivals.md").write_text(document(rows, command, missing), encoding="utf-8")
    try:
        from rivals.picture import draw  # not above: measuring needs no matplotlib
    except ModuleNotFoundError:
        print("No picture: matplotlib is missing. Install it with: pip install 'lpcompress[plots]'", file=sys.stderr)
    else:
        draw(rows, args.out)


if __name__ == "__main__":
    main()
