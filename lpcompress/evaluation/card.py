"""GLUE results beside a checkpoint: in its report, and in the text and the metadata of its model card."""

import json
from collections.abc import Mapping

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lpcompress.compression.report import CARD_FILE, REPORT_FILE
from lpcompress.evaluation.evaluation import CAPTION, Evaluation
from lpcompress.evaluation.report import Line, part_of
from lpcompress.evaluation.results import OK
from lpcompress.glue.data import REPOSITORY
from lpcompress.glue.tasks import SECOND_SPLIT, TASKS
from lpcompress.presentation import as_json, points

HUB_METRICS = {"matthews": "matthews_correlation", "spearman": "spearmanr", "pearson": "pearsonr"}  # their names there
SECTION = """
## GLUE, {caption}

| task | n | metric | dense | compressed | drop |
|---|---|---|---|---|---|
{rows}

Points, 0 to 100, on the development set{part}. Drop = dense minus compressed score, with its standard error.
"""


def with_scores(texts: Mapping[str, str], evaluation: Evaluation, name: str) -> dict[str, str]:
    """Return the files beside a checkpoint with scores in the report and in the model card.

    Parameters
    ----------
    texts : mapping of str to str
        File name -> text, the report's and the card's among them.
    evaluation : Evaluation
    name : str
        Of the model, for the card.
    """
    record = json.loads(texts[REPORT_FILE]) | {"glue": evaluation.as_dict()}
    scored = card_with_scores(texts[CARD_FILE], evaluation, name)
    return {**texts, REPORT_FILE: as_json(record) + "\n", CARD_FILE: scored}


def card_with_scores(text: str, evaluation: Evaluation, name: str) -> str:
    """Return the text of a model card with a table of the scores, and with the scores in its metadata.

    Parameters
    ----------
    text : str
        Of the card without them.
    evaluation : Evaluation
    name : str
        Of the model.
    """
    card = ModelCard(text)
    card.data = ModelCardData(**card.data.to_dict() | {"model_name": name, "eval_results": eval_results(evaluation)})
    rows = "\n".join(_rows(evaluation))
    card.text += SECTION.format(caption=CAPTION, rows=rows, part=part_of(evaluation))
    return str(card)


def eval_results(evaluation: Evaluation) -> list[EvalResult]:
    """Return an entry of a model card's model-index for each metric of each task that was scored."""
    part = part_of(evaluation)
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type=REPOSITORY,
            dataset_name=f"GLUE {TASKS[key].spelling}",
            dataset_config=key,
            dataset_split=TASKS[key].splits[name.endswith(SECOND_SPLIT)],
            metric_type=HUB_METRICS.get(name, name.removesuffix(SECOND_SPLIT)),
            metric_name=f"{name} (points, 0 to 100, {CAPTION}{part})",
            metric_value=round(value, 4),
        )
        for key, result in evaluation.first.tasks.items()
        if result.status == OK
        for name, value in result.metrics.items()
    ]


def _rows(evaluation: Evaluation) -> list[str]:
    return [
        f"| {key} | {result.n:,} | {' + '.join(result.metrics)} | {points(result.baseline_score)}"
        f" | {points(result.score)} | {Line.of_task(result).drop_cell} |"
        for key, result in evaluation.first.tasks.items()
        if result.status == OK
    ]
