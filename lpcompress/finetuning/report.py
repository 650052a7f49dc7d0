"""A fine-tuning run for people: a table, and the files beside the weights."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from rich.table import Table

from lpcompress.checkpoints.files import file_bytes
from lpcompress.compression.report import CARD_FILE, REPORT_FILE, model_card
from lpcompress.finetuning.record import Record
from lpcompress.glue.data import REPOSITORY
from lpcompress.presentation import as_json, plain_table, points

RECORD_FILE = "finetuning.json"
TEMPLATE = Path(__file__).parent / "templates" / "card.md"  # Jinja's, which torch brings with it


def companion_files(record: Record, source: Path | None, directory: Path, model: Any) -> dict[str, str]:
    """Return names and texts of the files that stand beside the weights: record, model card, report.

    Parameters
    ----------
    record : Record
    source : Path or None
        Directory of the model that was trained; its report, if it is compressed, is taken over.
    directory : Path
        Holds the new weight files, whose size the report states.
    model : PreTrainedModel
    """
    texts = {RECORD_FILE: as_json(record) + "\n"}
    path = source / REPORT_FILE if source else None
    if path is None or not path.is_file():
        return texts | {CARD_FILE: _card(record)}
    summary = json.loads(path.read_text(encoding="utf-8"))
    size = {"out": record.out, "file_bytes_after": file_bytes(directory)}
    summary |= size | {"warnings": [], "finetuning": record.sentence}
    summary.pop("glue", None)  # scores of the model as it was before
    return texts | {REPORT_FILE: as_json(summary) + "\n", CARD_FILE: model_card(summary, type(model).__name__)}


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
