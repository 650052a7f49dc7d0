"""Paper 1: 28 % of the embedding removed without fine-tuning, for p from 1 to 2, and where p = 1 pays.

    python scripts/reproduce_paper1.py --models MODELS_DIR --data GLUE_DIR --out results.json

Tukan, Maalouf, Weksler, Feldman, "Compressed Deep Networks: Goodbye SVD, Hello Robust Low-Rank Approximation", 2020.
For every p the embedding is fitted by a single subspace (`lp`, the paper's setting) and by several (`adaptive`), with
uniform row weights and with the token prior. MODELS_DIR holds one fine-tuned classifier per task, GLUE_DIR
<task>/<split>.parquet. Without them only the synthetic embeddings are fitted.
"""

import argparse
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import lpcompress
from lpcompress import factorize
from lpcompress.factor.norms import relative_error

NORMS = (1.0, 1.25, 1.5, 1.75, 2.0)
METHODS = {"lp": "single subspace", "adaptive": "adaptive"}
WEIGHTS = ("uniform", "zipf")
NOTES = """\
Published: RoBERTa, 28 % of the embedding removed, average drop over GLUE: l1 0.63 %, SVD 11 %; no figures for other p
or other networks. Differences: models of 6 layers and width 384 (one family of weights, MiniLM's), the tasks that have
one, and the solver: the published code does not run at this size, so subspaces come from Lewis weights and reweighted
least squares. ±: standard error over the rows of the development sets (paired bootstrap). Two drops differ only if they
are further apart than that."""
SYNTHETIC_NOTES = """\
Relative Frobenius error of all entries but the planted outliers, against the planted low-rank matrix; smaller is
better. Three seeds, mean ± standard error. Outliers pull least squares towards them but not l1; without outliers l1
has the larger error."""


def planted(kind: str, seed: int, rows: int, width: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return an embedding (rows, width), its planted low-rank matrix, and a bool mask of the entries not made outliers.

    Parameters
    ----------
    kind : str
        `none`; `rows`: 2 % of the rows are replaced by random ones about 30 times as long; `coordinates`: 2 % of all
        entries are replaced by large ones.
    seed, rows, width, rank : int
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    clean = normal(rows, rank) @ normal(rank, width) / rank**0.5
    matrix, kept = clean + 0.05 * normal(rows, width), torch.ones(rows, width, dtype=torch.bool)
    if kind == "rows":
        far = torch.randperm(rows, generator=generator)[: rows // 50]
        matrix[far], kept[far] = 30 * normal(len(far), width), False
    if kind == "coordinates":
        kept = torch.rand(rows, width, generator=generator) >= 0.02
        matrix = torch.where(kept, matrix, 20 * normal(rows, width))
    return matrix, clean, kept


def synthetic(args: argparse.Namespace) -> Table:
    """Return the table of synthetic embeddings, with one row per kind of outliers and one column per p."""
    table = Table("outliers", *(f"p = {p:g}" for p in args.norms), title="synthetic low rank, single subspace: error")
    rows, width, rank = args.synthetic
    ratio = 1 - rank * (rows + width) / (rows * width) - 1e-6
    for kind in ("none", "rows", "coordinates"):
        cells = []
        for p in args.norms:
            errors = []
            for seed in range(3):
                matrix, clean, kept = planted(kind, seed, rows, width, rank)
                fitted = factorize(matrix, "lp", ratio, p=p).dense()
                errors.append(relative_error(clean * kept, fitted * kept))
            values = torch.tensor(errors)
            cells.append(f"{values.mean():.3f} ± {values.std() / 3**0.5:.3f}")
        table.add_row(kind, *cells)
    return table


def scored(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a record per method, row weights and p: drop by task and their mean, with standard errors."""
    found: list[dict[str, Any]] = []
    models = str(args.models / "{task}")
    tasks = args.tasks or sorted(path.name for path in args.models.iterdir() if path.is_dir())
    for method, weights, p in product(args.methods, args.row_weights, args.norms):
        document = lpcompress.eval_glue(
            models, tasks, data=args.data, limit=args.limit, ratio=args.ratio, p=p, method=method, row_weights=weights
        )
        entries = {key: entry for key, entry in document["tasks"].items() if entry["status"] == "ok"}
        layers = [entry["compression"]["layers"][0] for entry in entries.values()]
        record = {"method": method, "row_weights": weights, "p": p}
        record |= {"drops": {key: [entry["drop"], entry["se"]] for key, entry in entries.items()}}
        record |= {"mean": document["average_drop"], "se": document["average_drop_se"]}
        record |= {name: sum(each[name] for each in layers) / len(layers) for name in ("error_fro", "error_p")}
        found.append(record)
        if args.out:
            args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def as_table(found: list[dict[str, Any]]) -> Table:
    """Return a table with one row per method, row weights and p."""
    tasks = found[0]["drops"]
    table = Table("fit", "row weights", "p", *tasks, "mean drop", "l2 error", "lp error", title="drop ± se, points")
    for each in found:
        cells = [f"{drop:.2f} ± {se:.2f}" for drop, se in each["drops"].values()]
        mean, errors = f"{each['mean']:.2f} ± {each['se']:.2f}", (f"{each['error_fro']:.4f}", f"{each['error_p']:.4f}")
        table.add_row(METHODS[each["method"]], each["row_weights"], f"{each['p']:g}", *cells, mean, *errors)
    return table


def main() -> None:
    """Print the table of synthetic embeddings, and with --models and --data that of GLUE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tasks", nargs="+", help="default: all tasks with a model")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--row-weights", nargs="+", default=list(WEIGHTS), choices=WEIGHTS)
    parser.add_argument("--norms", nargs="+", type=float, default=list(NORMS), metavar="P")
    parser.add_argument("--ratio", type=float, default=0.28)
    parser.add_argument("--limit", type=int, help="development rows per task")
    parser.add_argument("--synthetic", nargs=3, type=int, default=[3000, 128, 40], metavar=("ROWS", "WIDTH", "RANK"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the drops, written after each fit")
    args = parser.parse_args()
    if (args.models is None) != (args.data is None):
        parser.error("--models and --data must be given together.")
    torch.set_num_threads(args.threads)
    out = Console(width=170)
    out.print(synthetic(args))
    out.print(SYNTHETIC_NOTES)
    if args.models:
        out.print(as_table(scored(args)))
        out.print(NOTES)


if __name__ == "__main__":
    main()
