"""A fine-tuning run for people: a table, and the files beside the weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from rich.table import Table

from lpcompress.checkpoints.files import REPORT_FILE, file_bytes
from lpcompress.compression.card import CARD_FILE, model_card
from lpcompress.compression.report import CheckpointReport
from lpcompress.glue.data import REPOSITORY
from lpcompress.presentation import as_json, plain_table

RECORD_FILE = "finetuning.json"
CARD = """\
# {name}

{sentence}
"""


def write_companions(directory: Path, document: dict[str, Any], source: Path | None, model: Any) -> None:
    """Write record and model card beside the weights.

    Parameters
    ----------
    directory : Path
        Where the weights have been written.
    document : dict
        As from `finetuning.finetune`.
    source : Path or None
        Directory of the model that was trained; its report, if it is compressed, is taken over.
    model : PreTrainedModel
    """
    (directory / RECORD_FILE).write_text(as_json(document) + "\n", encoding="utf-8")
    path = source / REPORT_FILE if source else None
    card = _card(document)
    if path and path.is_file():
        before = CheckpointReport.from_document(json.loads(path.read_text(encoding="utf-8")))
        report = replace(
            before,
            out=document["out"],
            file_bytes_after=file_bytes(directory),
            warnings=[],
            finetuning=sentence(document),
            glue=None,  # scores of the model as it was before
        )
        report.write(directory)
        card = model_card(report, type(model).__name__)
    (directory / CARD_FILE).write_text(card, encoding="utf-8")


def sentence(document: dict[str, Any]) -> str:
    """Return what was done and what it came to, in a sentence."""
    settings, before = document["settings"], document["score_before"]
    teacher = f", following `{Path(document['distill']).name}`," if document["distill"] else ""
    steps = f"{settings['max_steps']:,} steps" if settings["max_steps"] else f"{settings['epochs']:g} epochs"
    start = "with a new head" if before is None else f"from a score of {before:.2f}"
    return (
        f"Fine-tuned on {settings['train_rows']:,} rows of GLUE's {document['task']} ({settings['split']}){teacher} for"
        f" {steps}, {start}: {document['score']:.2f} points on {document['n']:,} rows of the development set."
    )


def finetuning_table(document: dict[str, Any]) -> Table:
    """Return the table of a run."""
    table = plain_table(f"{document['out']}: {document['model']}, fine-tuned on {document['task']}")
    table.caption = sentence(document)
    for heading in ("before", "after", "gain ± se", "on the training rows", "teacher", "mean loss"):
        table.add_column(heading, justify="right")
    gain = "-" if document["gain"] is None else f"{document['gain']:.2f} ± {document['se']:.2f}"
    table.add_row(
        _points(document["score_before"]),
        _points(document["score"]),
        gain,
        _points(document["train_score"]),
        _points(document["teacher_score"]),
        f"{document['train_loss']:.4f}",
    )
    return table


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _card(document: dict[str, Any]) -> str:
    data = ModelCardData(library_name="transformers", datasets=[REPOSITORY], tags=["lpcompress"])
    return f"---\n{data.to_yaml()}\n---\n\n" + CARD.format(name=Path(document["out"]).name, sentence=sentence(document))
