"""The report of a fine-tuning run: a table, and the files beside the weights."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from rich.table import Table

from lpcompress.checkpoints.files import CARD_FILE, file_bytes
from lpcompress.checkpoints.saving import Written
from lpcompress.compression.card import model_card
from lpcompress.compression.report import CheckpointReport
from lpcompress.filenames import RECORD_FILE
from lpcompress.finetuning.record import Record
from lpcompress.glue.data import REPOSITORY
from lpcompress.presentation import as_json, plain_table, points

TEMPLATE = Path(__file__).parent / "templates" / "card.md"  # for Jinja, which is installed with torch


def write_companions(
    directory: Path,
    record: Record,
    before: CheckpointReport | None,
    model: Any,
    written: Written,
    base: Mapping[str, Any],
) -> None:
    """Write the record, the model card and, for a compressed model, its report beside the weights.

    Parameters
    ----------
    directory : Path
        Directory of the new weight files, whose size the report states.
    record : Record
    before : CheckpointReport or None
        Report of the model that was trained, if that is compressed. It is updated and written.
    model : PreTrainedModel
    written : Written
        What was checked and left out when the weights were written.
    base : mapping
        What `lineage.inherited` returns for the model that was trained.
    """
    (directory / RECORD_FILE).write_text(as_json(record) + "\n", encoding="utf-8")
    card, report = _card(record), None
    if before:
        changed: dict[str, Any] = {"out": record.out, "file_bytes_after": file_bytes(directory), "warnings": []}
        changed |= {"verification": written.verification and asdict(written.verification)}
        report = replace(before, **changed, finetuning=record.sentence, glue=None)  # scores before training
        card = model_card(report, type(model).__name__, base)
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
    if report:
        report.write(directory)


def finetuning_table(record: Record) -> Table:
    """Return the table of a run."""
    table = plain_table(f"{record.out}: {record.model}, fine-tuned on {record.task}")
    table.caption = record.sentence
    cells = {
        "before": points(record.score_before),
        "after": points(record.score),
        "gain ± se": "-" if record.gain is None else f"{record.gain:.2f} ± {record.se:.2f}",
        "on the training rows": points(record.train_score),
        "teacher": points(record.teacher_score),
        "mean loss": f"{record.trained.train_loss:.4f}",
    }
    for heading in cells:
        table.add_column(heading, justify="right")
    table.add_row(*cells.values())
    return table


def _card(record: Record) -> str:
    """Return the model card of a dense model."""
    data = ModelCardData(library_name="transformers", datasets=[REPOSITORY], tags=["lpcompress"])
    words = {"name": Path(record.out).name, "sentence": record.sentence}
    return f"{ModelCard.from_template(data, template_path=str(TEMPLATE), **words)}\n"
