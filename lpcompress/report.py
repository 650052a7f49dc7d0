"""What was done, written down: JSON for machines, a table and a model card for people."""

import json
import resource
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lpcompress import __version__
from lpcompress.checkpoint import REPORT_FILE, file_bytes
from lpcompress.compression import CompressionReport
from lpcompress.inspection import Inspection

CARD_FILE = "README.md"
CAPTION = "error: relative, {error}; removed: share of stored bytes"
BY_ROWS = "each row weighted by how much it counts"
OF_OUTPUTS = "of a calibrated layer's outputs on such text"
CANDIDATES = "the errors of all candidates that auto tried stand in the JSON report"
MOST_CHOICES = 4  # told in full below the table
MIN_WIDTH = 72  # of a table, so that its title stands in one line
MOST_RANKS = 6  # listed in a table cell before the rest becomes "..."

KINDS = {"embedding": "embedding", "linear": "linear layer", "conv": "convolution"}

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


def as_json(result: object) -> str:
    """Return a result, dataclasses in it included, as one JSON document; NaN raises ValueError."""
    return json.dumps(result, indent=2, allow_nan=False, default=asdict)


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


def inspection_tables(found: Inspection) -> list[Table]:
    """Return the tables of `lpcompress inspect`: layers, spectrum, and what was done to them."""
    size = f"{found.parameters:,} parameters, {megabytes(found.bytes)}"
    layers = plain_table(f"{found.model}: {found.architecture}, {found.dtype}, {size}", "layer", "kind")
    for heading in ("count", "shape", "parameters", "share"):
        layers.add_column(heading, justify="right")
    for group in found.groups:
        sizes = f"{group.count:,}", dimensions(group.shape), f"{group.parameters:,}"
        layers.add_row(group.name, group.kind, *sizes, f"{group.share:.1%}")
    tables = [layers]
    if found.embedding:
        shares = [f"{float(share):.0%}" for share in found.embedding.energy]
        spectrum = plain_table(f"spectrum of {found.embedding.name}", "largest singular values", *shares)
        spectrum.add_row("energy kept", *(f"{energy:.1%}" for energy in found.embedding.energy.values()))
        spectrum.caption = f"kurtosis of the entries {found.embedding.kurtosis:.1f} (normal distribution: 3)"
        tables.append(spectrum)
    if found.report:
        tables.append(layer_table(found.report))
    return tables


def dimensions(shape: list[int]) -> str:
    """Return a shape as people read it."""
    return " x ".join(f"{size:,}" for size in shape)


def megabytes(count: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{count / 1e6:,.1f} MB"


def short_list(numbers: list[int]) -> str:
    """Return the numbers in a line, the tail of a long list as dots."""
    shown = ", ".join(map(str, numbers[:MOST_RANKS]))
    return shown + (f", ... ({len(numbers)})" if len(numbers) > MOST_RANKS else "")


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
    words = [f"{count} {KINDS[kind]}{'s' * (count > 1)}" for kind, count in counts.items()]
    return " and ".join(words)


def _choice(layer: dict[str, Any]) -> str:
    """Return what `auto` tried for a layer, the best first."""
    tried = sorted(layer["candidates"].items(), key=lambda item: item[1])
    return f"{layer['name']}: tried " + ", ".join(f"{name} {error:.4f}" for name, error in tried)


def plain_table(title: str, *headings: str) -> Table:
    """Return an empty table in the style of all reports."""
    return Table(
        *headings, title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, min_width=MIN_WIDTH
    )
