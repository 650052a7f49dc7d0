"""GLUE results for people: a table, and the metadata of a model card."""

from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from rich.table import Table

from lpcompress.glue.data import REPOSITORY
from lpcompress.glue.tasks import SECOND_SPLIT, TASKS, WNLI
from lpcompress.presentation import megabytes, plain_table

HUB_METRICS = {"matthews": "matthews_correlation", "spearman": "spearmanr", "pearson": "pearsonr"}  # their names there
MARK = "*"
SECTION = """
## GLUE, {caption}

| task | n | metric | dense | compressed | drop |
|---|---|---|---|---|---|
{rows}

Points, 0 to 100, on the development set{part}. Drop = dense minus compressed score, with its standard error.
"""


def glue_table(document: dict[str, Any]) -> Table:
    """Return the table of an evaluation, several methods side by side.

    Parameters
    ----------
    document : dict
        As from `benchmark.eval_glue`.
    """
    documents = document.get("methods") or {"": document}
    compared = document["baseline"] is not None
    table = plain_table(f"GLUE, {document['caption']}: {_subject(document)}")
    table.caption = "\n".join(_notes(document, documents))
    table.add_column("task")
    for heading in _headings(documents, compared):
        table.add_column(heading, justify="right", no_wrap=True)
    for key in document["tasks"]:
        entries = [each["tasks"][key] for each in documents.values()]
        table.add_row(key + MARK * (key == WNLI), *_cells(entries, compared))
    table.add_section()
    table.add_row("average", *_cells([_as_entry(each) for each in documents.values()], compared))
    if WNLI in document["tasks"]:
        rest = [_as_entry(each["without_wnli"]) for each in documents.values()]
        table.add_row("average without wnli", *_cells(rest, compared))
    return table


def eval_results(document: dict[str, Any]) -> list[EvalResult]:
    """Return an entry of a model card's model-index for each metric of each task that was scored."""
    part = _part(document)
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type=REPOSITORY,
            dataset_name=f"GLUE {TASKS[key].spelling}",
            dataset_config=key,
            dataset_split=TASKS[key].splits[name.endswith(SECOND_SPLIT)],
            metric_type=HUB_METRICS.get(name, name.removesuffix(SECOND_SPLIT)),
            metric_name=f"{name} (points, 0 to 100, {document['caption']}{part})",
            metric_value=round(value, 4),
        )
        for key, entry in document["tasks"].items()
        if entry["status"] == "ok"
        for name, value in entry["metrics"].items()
    ]


def with_scores(card: str, document: dict[str, Any], name: str) -> str:
    """Return the text of a model card with the scores in its metadata and in a section of their own.

    Parameters
    ----------
    card : str
        As from `compression.card.model_card`.
    document : dict
        As from `benchmark.eval_glue`.
    name : str
        Of the model.
    """
    scored = ModelCard(card)
    metadata = scored.data.to_dict() | {"model_name": name, "eval_results": eval_results(document)}
    scored.data = ModelCardData(**metadata)
    rows = "\n".join(_card_rows(document))
    scored.text += SECTION.format(caption=document["caption"], rows=rows, part=_part(document))
    return str(scored)


def _headings(documents: dict[str, Any], compared: bool) -> list[str]:
    if not compared:
        return ["n", "score"]
    if len(documents) == 1:
        return ["n", "base", "compressed", "drop ± se", "recovery"]
    return ["n", "base", *documents]


def _cells(entries: list[dict[str, Any]], compared: bool) -> list[str]:
    """Return the cells of a row: entries of the same task, one for each method."""
    first = entries[0]
    n = f"{first['n']:,}" if "n" in first else ""
    if not compared:
        return [n, _number(first.get("score")) if "reason" not in first else first["status"]]
    base = next((_number(each.get("baseline_score")) for each in entries if "reason" not in each), "-")
    if len(entries) > 1:
        return [n, base, *(f"{_compressed(each)}\n{_drop(each)}".rstrip() for each in entries)]
    recovery = first.get("recovery")
    return [n, base, _compressed(first), _drop(first), "" if recovery is None else f"{recovery:.1%}"]


def _compressed(entry: dict[str, Any]) -> str:
    return entry["status"] if "reason" in entry else _number(entry["score"])


def _drop(entry: dict[str, Any]) -> str:
    """Return the drop with its standard error; of unlabelled rows the share predicted as before."""
    if entry.get("drop") is not None:
        return f"{entry['drop']:.2f} ± {entry['se']:.2f}"
    return f"{entry['agreement']:.1f}% same" if entry.get("agreement") is not None else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _as_entry(means: dict[str, Any]) -> dict[str, Any]:
    """Return averages under the keys of a task's entry."""
    names = {"score": "average", "baseline_score": "baseline_average", "drop": "average_drop"}
    names |= {"se": "average_drop_se", "recovery": "average_recovery"}
    return {key: means[name] for key, name in names.items()}


def _subject(document: dict[str, Any]) -> str:
    plan = document["settings"]["compression"]
    if plan is None:
        return document["model"]
    method = "" if document.get("methods") else f"{plan['method']}, "
    return f"{document['model']}, {method}p={plan['p']:g}, {_size(plan)}"


def _size(plan: dict[str, Any]) -> str:
    """Return how small a plan makes a model, in words."""
    if plan["target_size"] is not None:
        return f"{plan['target_size']:.0%} of the model kept"
    if plan["max_bytes"] is not None:
        return f"at most {megabytes(plan['max_bytes'])}"
    return "as allocated" if plan["ratio"] is None else f"{plan['ratio']:.0%} removed"


def _notes(document: dict[str, Any], documents: dict[str, Any]) -> list[str]:
    """Return the lines below the table: the formula, and what stands in no cell."""
    notes = [f"scores in points (0 to 100){_part(document)}; drop = base - compressed, se by the paired bootstrap"]
    notes.append(document["formula"])
    if WNLI in document["tasks"]:
        notes.append(f"{MARK} nearly every model gives the majority class of {WNLI}, 56.3")
    reasons = {
        f"{key} {entry['status']}: {entry['reason']}": None
        for each in documents.values()
        for key, entry in each["tasks"].items()
        if "reason" in entry
    }
    return [*notes, *reasons]


def _part(document: dict[str, Any]) -> str:
    """Return the words that say so if only some of the rows were scored."""
    limit = document["settings"]["limit"]
    return f", only the first {limit:,} rows" if limit else ""


def _card_rows(document: dict[str, Any]) -> list[str]:
    return [
        f"| {key} | {entry['n']:,} | {' + '.join(entry['metrics'])} | {_number(entry['baseline_score'])}"
        f" | {_number(entry['score'])} | {_drop(entry)} |"
        for key, entry in document["tasks"].items()
        if entry["status"] == "ok"
    ]
