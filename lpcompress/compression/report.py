"""What was done, written down: JSON for machines, a table and a model card for people."""

import resource
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from rich.table import Table

from lpcompress.checkpoints.files import REPORT_FILE, file_bytes
from lpcompress.compression.records import CompressionReport
from lpcompress.nn import noun_of
from lpcompress.presentation import as_json, dimensions, megabytes, plain_table, short_list
from lpcompress.version import __version__

CARD_FILE = "README.md"
CAPTION = "error: relative, {error}; removed: share of stored bytes"
BY_ROWS = "each row weighted by how much it counts"
OF_OUTPUTS = "of a calibrated layer's outputs on such text"
CANDIDATES = "the errors of all candidates that auto tried stand in the JSON report"
MOST_CHOICES = 4  # told in full below the table


DATA_FREE = "No data was used for that."
CALIBRATED = "{texts} unlabelled texts were used for that ({source})."
UNTRAINED = "Nothing was fine-tuned."
BEFORE_TRAINING = " before that training"
CARD = """\
# {name}

`{model}` with {what} replaced by factored forms, by lpcompress {version}.
{data} {training} The weight files took {before} before and take {after} now.
{warnings}
| layer | shape | method | p | removed | error | SVD's error at this size |
|---|---|---|---|---|---|---|
{rows}

*removed* is the share of the layer's stored bytes that is gone, every index and mask counted.
*error* is relative{when}: {error} ({row_weights}).{skipped}

## Loading

```python
import lpcompress  # pip install lpcompress; from here on transformers knows the format
from transformers import {auto_class}

model = {auto_class}.from_pretrained("{folder}")
```

**Without `import lpcompress` loading fails with a size mismatch, and that is meant. Never answer it with
`ignore_mismatched_sizes=True`: the model then runs with random weights.** Scripts that pass this flag by
themselves need the import too.

For programs that cannot import it: `lpcompress densify {folder} OUT` writes a plain checkpoint,
as large as the original. The full record is in `{report_file}`.
"""


def as_dict(report: CompressionReport, *, model: str, out: Path | str, before: int, after: int) -> dict[str, Any]:
    """Return the report under the keys that others script against.

    Parameters
    ----------
    report : CompressionReport
    model : str
        What was compressed, as the user named it.
    out : Path or str
        Where the result stands.
    before, after : int
        Bytes of the weight files.
    """
    return {
        "lpcompress_version": __version__,
        "model": model,
        "out": str(out),
        "seed": report.seed,
        "seconds": round(report.seconds, 3),
        "peak_rss_bytes": peak_rss_bytes(),
        "parameters_before": report.parameters_before,
        "parameters_after": report.parameters_after,
        "file_bytes_before": before,
        "file_bytes_after": after,
        "layers": [asdict(layer) for layer in report.layers],
        "calibration": report.calibration,
        "skipped": report.skipped,
        "warnings": report.warnings,
    }


def companion_files(
    report: CompressionReport, *, model: str, out: Path, before: int, auto_class: str
) -> Callable[[Path], dict[str, str]]:
    """Return the function that writes report and model card once the weights are on disk.

    They state the size of the weight files, which is known only then.

    Parameters
    ----------
    report, model, out, before
        As for `as_dict`.
    auto_class : str
        The transformers class that the card tells people to load with.

    Returns
    -------
    callable
        Takes the directory that holds the weights, returns file names and their text.
    """

    def files(directory: Path) -> dict[str, str]:
        summary = as_dict(report, model=model, out=out, before=before, after=file_bytes(directory))
        return {REPORT_FILE: as_json(summary) + "\n", CARD_FILE: model_card(summary, auto_class)}

    return files


def peak_rss_bytes() -> int:
    """Return the most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def layer_table(summary: dict[str, Any]) -> Table:
    """Return a table of the compressed layers, with the error of plain SVD at the same size beside ours."""
    size = f"{megabytes(summary['file_bytes_before'])} -> {megabytes(summary['file_bytes_after'])}"
    table = plain_table(f"{summary['model']}: {size}")
    chosen = [_choice(layer) for layer in summary["layers"] if len(layer["candidates"]) > 1]
    notes = [CAPTION.format(error=_kinds_of_error(summary["layers"])), *_left_alone(summary)]
    table.caption = "\n".join([*notes, *(chosen if len(chosen) <= MOST_CHOICES else [CANDIDATES])])
    for heading in ("layer", "shape", "method", "ranks"):
        table.add_column(heading, overflow="fold")
    for heading in ("removed", "error", "SVD's error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in summary["layers"]:
        table.add_row(
            layer["name"],
            dimensions(layer["shape"]),
            f"{layer['method']}, p={layer['p']:g}",
            short_list(layer["ranks"]),
            f"{layer['removed']:.1%}",
            *_errors(layer),
        )
    return table


def preview_table(layers: list[dict[str, Any]]) -> Table:
    """Return the table of a dry run: what would be replaced, and what the asked size buys."""
    table = plain_table("would be replaced (nothing was written)")
    table.add_column("layer", overflow="fold")
    for heading in ("shape", "method", "bytes now", "bytes at most", "expected error", "SVD's rank", "row weights"):
        table.add_column(heading, justify="right")
    for layer in layers:
        table.add_row(
            layer["name"],
            dimensions(layer["shape"]),
            layer["method"],
            f"{layer['bytes_before']:,}",
            f"{layer['bytes_budget']:,}",
            _error(layer["expected_error"]),
            f"{layer['svd_rank']:,}",
            layer["row_weights"],
        )
    return table


def model_card(summary: dict[str, Any], auto_class: str) -> str:
    """Return the text of the model card: what was done, how to load it, what not to do."""
    rows = [
        f"| `{layer['name']}` | {dimensions(layer['shape'])} | {layer['method']} | {layer['p']:g} "
        f"| {layer['removed']:.1%} | {' | '.join(_errors(layer))} |"
        for layer in summary["layers"]
    ]
    folder = Path(summary["out"]).name
    local = Path(summary["model"]).exists()  # only a Hub id may stand in the card's metadata
    data = ModelCardData(
        base_model=None if local else summary["model"],
        library_name="transformers",
        tags=["lpcompress", "compression", "low-rank"],
    )
    text = CARD.format(
        name=folder,
        model=Path(summary["model"]).name if local else summary["model"],
        what=_counted(summary["layers"]),
        version=summary["lpcompress_version"],
        before=megabytes(summary["file_bytes_before"]),
        after=megabytes(summary["file_bytes_after"]),
        rows="\n".join(rows),
        data=CALIBRATED.format(**summary["calibration"]) if summary.get("calibration") else DATA_FREE,
        training=summary.get("finetuning") or UNTRAINED,
        when=BEFORE_TRAINING if summary.get("finetuning") else "",
        error=_kinds_of_error(summary["layers"]),
        skipped="".join(f"\n{note}." for note in _left_alone(summary)),
        warnings="".join(f"\n**Warning:** {warning}\n" for warning in summary.get("warnings", [])),
        row_weights=", ".join(sorted({layer["row_weights"] for layer in summary["layers"]})),
        auto_class=auto_class,
        folder=folder,
        report_file=REPORT_FILE,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{text}"


def _errors(layer: dict[str, Any]) -> tuple[str, str]:
    """Return the error that the fit made small, and plain SVD's, as cells of a table."""
    kind = "weighted" if layer.get("error_calibrated") is None else "calibrated"
    return _error(layer[f"error_{kind}"]), _error(layer.get(f"svd_error_{kind}"))


def _kinds_of_error(layers: list[dict[str, Any]]) -> str:
    """Return what the errors of these layers mean."""
    calibrated = [layer.get("error_calibrated") is not None for layer in layers]
    return "; ".join([BY_ROWS] * (not all(calibrated)) + [OF_OUTPUTS] * any(calibrated))


def _left_alone(summary: dict[str, Any]) -> list[str]:
    """Return a line on the chosen layers that stay as they are, if there are any."""
    count = len(summary.get("skipped", ()))
    return [f"{count:,} of the chosen layers stay as they are; why stands in {REPORT_FILE}"] if count else []


def _error(error: float | None) -> str:
    """Return an error in a table cell; SVD has none at a size that not even rank 1 fits."""
    return "-" if error is None else f"{error:.4f}"


def _counted(layers: list[dict[str, Any]]) -> str:
    """Return how many layers of each kind there are."""
    counts = Counter(layer["kind"] for layer in layers)
    words = [f"{count} {noun_of(kind)}{'s' * (count > 1)}" for kind, count in counts.items()]
    return " and ".join(words)


def _choice(layer: dict[str, Any]) -> str:
    """Return what `auto` tried for a layer, the best first."""
    tried = sorted(layer["candidates"].items(), key=lambda item: item[1])
    return f"{layer['name']}: tried " + ", ".join(f"{name} {error:.4f}" for name, error in tried)
