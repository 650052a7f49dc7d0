"""Write the model card of a compressed checkpoint."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

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
TEMPLATE = Path(__file__).parent / "templates" / "card.md"  # for Jinja, by way of huggingface_hub


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
    local = is_local(report.model)  # the card's metadata may only name a Hub id
    data = ModelCardData(
        base_model=None if local else report.model,
        base_model_relation=None if local else "quantized",  # the Hub's word for all that is smaller
        library_name="transformers",
        tags=["lpcompress", "compression", "low-rank"],
        **(base or {}),
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=Path(report.out).name,
        model=Path(report.model).name if local else report.model,
        what=_counted(report.layers),
        version=report.lpcompress_version,
        data=used_data(report),
        training=report.finetuning or UNTRAINED,
        finetuned=bool(report.finetuning),
        before=megabytes(report.file_bytes_before),
        after=megabytes(report.file_bytes_after),
        loaded=report.bytes_in_memory is not None and megabytes(report.bytes_in_memory),
        warnings=report.warnings,
        rows=[_cells(layer) for layer in report.layers],
        error=kinds_of_error(report.layers),
        row_weights=", ".join(sorted({layer.row_weights for layer in report.layers})),
        skipped=skipped_note(report),
        auto_class=auto_class,
        report_file=REPORT_FILE,
    )
    return f"{card}\n"


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


def _cells(layer: LayerRecord) -> list[str]:
    """Return a layer's row of the table."""
    first = f"`{layer.name}`", dimensions(layer.shape), layer.method, f"{layer.p:g}"
    return [*first, *sizes_of(layer), f"{layer.removed:.1%}", *errors_of(layer)]


def _counted(layers: Sequence[LayerRecord]) -> str:
    """Return the number of layers of each role, in words."""
    counts = Counter(layer.kind for layer in layers)
    words = [f"{count} {noun_of(role)}{'s' * (count > 1)}" for role, count in counts.items()]
    return " and ".join(words)
