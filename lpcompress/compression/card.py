"""Write the model card of a compressed checkpoint."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from lpcompress.compression.records import LayerRecord
from lpcompress.compression.report import CheckpointReport, errors_of, kinds_of_error, sizes_of, skipped_note
from lpcompress.config.plan import DRAWN
from lpcompress.filenames import REPORT_FILE
from lpcompress.nn import noun_of
from lpcompress.presentation import dimensions, is_local, megabytes

DATA_FREE = "No data was used."
DATA_FREE_DRAWN = (
    "No data was used: statistics come from {texts} sequences of tokens drawn at random, each as often as the tokenizer"
    " suggests."
)
CALIBRATED = "{texts} unlabelled texts ({source}) were used for calibration."
UNTRAINED = "The model was not fine-tuned."
BEFORE_TRAINING = " before that training"
CARD = """\
# {name}

`{model}` with {what} replaced by factored ones, by lpcompress {version}.
{data} {training} The weight files took {before} before compression and take {after} now{loaded}.
{warnings}
| layer | shape | method | p | on disk | in memory | removed | error | SVD error at this size |
|---|---|---|---|---|---|---|---|---|
{rows}

*in memory* is what the layer takes once it is loaded, at about the speed of the original model or faster;
`lpcompress.load({folder!r}, resident="codes")` takes less memory.
*removed* is the share of the layer's stored bytes that was removed, counting every index and mask.
*error* is relative{when}: {error}. Row weights: {row_weights}.{skipped}

## Loading

```python
import lpcompress  # pip install lpcompress; registers the format with transformers
from transformers import {auto_class}

model = {auto_class}.from_pretrained("{folder}")
```

**Without `import lpcompress`, loading fails with a size mismatch. This is intended. Never work around it with
`ignore_mismatched_sizes=True`: the model then runs with random weights.** Scripts that always pass this flag
need the import too.

For programs that cannot import lpcompress, `lpcompress densify {folder} OUT` writes a plain checkpoint,
as large as the original. The full report is in `{report_file}`.
"""


def model_card(report: CheckpointReport, auto_class: str, base: Mapping[str, Any] | None = None) -> str:
    """Return the model card as Markdown: what was compressed, how to load it, and what to avoid.

    Parameters
    ----------
    report : CheckpointReport
    auto_class : str
        The transformers class in the card's loading example.
    base : mapping, optional
        What `lineage.inherited` returns for the compressed model.
    """
    rows = [
        f"| `{layer.name}` | {dimensions(layer.shape)} | {layer.method} | {layer.p:g} "
        f"| {' | '.join(sizes_of(layer))} | {layer.removed:.1%} | {' | '.join(errors_of(layer))} |"
        for layer in report.layers
    ]
    folder = Path(report.out).name
    local = is_local(report.model)  # the card's metadata may only name a Hub id
    data = ModelCardData(
        base_model=None if local else report.model,
        base_model_relation=None if local else "quantized",  # the Hub's word for all that is smaller
        library_name="transformers",
        tags=["lpcompress", "compression", "low-rank"],
        **(base or {}),
    )
    text = CARD.format(
        name=folder,
        model=Path(report.model).name if local else report.model,
        what=_counted(report.layers),
        version=report.lpcompress_version,
        before=megabytes(report.file_bytes_before),
        after=megabytes(report.file_bytes_after),
        loaded=""
        if report.bytes_in_memory is None
        else f"; the loaded model takes {megabytes(report.bytes_in_memory)}",
        rows="\n".join(rows),
        data=used_data(report),
        training=report.finetuning or UNTRAINED,
        when=BEFORE_TRAINING if report.finetuning else "",
        error=kinds_of_error(report.layers),
        skipped="".join(f"\n{note}." for note in skipped_note(report)),
        warnings="".join(f"\n**Warning:** {warning}\n" for warning in report.warnings),
        row_weights=", ".join(sorted({layer.row_weights for layer in report.layers})),
        auto_class=auto_class,
        folder=folder,
        report_file=REPORT_FILE,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{text}"


def card_of_repository(card: str, report: CheckpointReport, repo: str) -> str:
    """Return a model card in which what loads the checkpoint names a repository on the Hub, not a directory."""
    folder = Path(report.out).name
    for line in ('.from_pretrained("{}")', "`lpcompress densify {} OUT`"):
        card = card.replace(line.format(folder), line.format(repo))
    return card


def used_data(report: CheckpointReport) -> str:
    """Return the sentence on the data that were used."""
    if not report.calibration:
        return DATA_FREE
    return (DATA_FREE_DRAWN if report.calibration["source"] == DRAWN else CALIBRATED).format(**report.calibration)


def _counted(layers: Sequence[LayerRecord]) -> str:
    """Return the number of layers of each role, in words."""
    counts = Counter(layer.kind for layer in layers)
    words = [f"{count} {noun_of(role)}{'s' * (count > 1)}" for role, count in counts.items()]
    return " and ".join(words)
