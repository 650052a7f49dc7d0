"""GLUE results in a model card: in its metadata and in a section of its text."""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Template

from lpcompress.evaluation.evaluation import CAPTION, Evaluation
from lpcompress.evaluation.grid import Line, part_of
from lpcompress.evaluation.results import OK
from lpcompress.glue.data import REPOSITORY
from lpcompress.glue.tasks import SECOND_SPLIT, TASKS
from lpcompress.presentation import points

HUB_METRICS = {"matthews": "matthews_correlation", "spearman": "spearmanr", "pearson": "pearsonr"}  # names on the Hub
TEMPLATE = Path(__file__).parent / "templates" / "scores.md"


def with_scores(card: str, evaluation: Evaluation, name: str) -> str:
    """Return a model card with the scores added to its metadata and as a section.

    Parameters
    ----------
    card : str
        Text of the card without scores.
    evaluation : Evaluation
    name : str
        Name of the model.
    """
    scored = ModelCard(card)
    metadata = scored.data.to_dict() | {"model_name": name, "eval_results": eval_results(evaluation)}
    scored.data = ModelCardData(**metadata)
    section = Template(TEMPLATE.read_text(encoding="utf-8"), keep_trailing_newline=True)
    scored.text += section.render(caption=CAPTION, rows=_rows(evaluation), part=part_of(evaluation))
    return str(scored)


def eval_results(evaluation: Evaluation) -> list[EvalResult]:
    """Return one model-index entry for each metric of each scored task."""
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


def _rows(evaluation: Evaluation) -> list[list[str]]:
    return [
        [
            key,
            f"{result.n:,}",
            " + ".join(result.metrics),
            points(result.baseline_score),
            points(result.score),
            Line.of_task(result).drop_cell,
        ]
        for key, result in evaluation.first.tasks.items()
        if result.status == OK
    ]
