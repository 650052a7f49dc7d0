"""Sections for `finetuning.json`, the record of a fine-tuning run."""

from lpcompress.config.recipe import Recipe
from lpcompress.pages.commands import command, unusual
from lpcompress.pages.sections import Bar, Chart, Document, Section, Table, named
from lpcompress.presentation import points


def sections_of(document: Document) -> list[Section]:
    """Return the section of a fine-tuning run."""
    scores = {"before": document["score_before"], "after": document["score"], "teacher": document["teacher_score"]}
    bars = [
        Bar(name, score, points(score), (document["se"] or 0.0) if name == "after" else 0.0, int(name == "after"))
        for name, score in scores.items()
        if score is not None
    ]
    rows = [
        [name, points(document["metrics_before"][name] if document["metrics_before"] else None), points(value)]
        for name, value in document["metrics"].items()
    ]
    settings = document["settings"]
    given = {"task": document["task"], "out": document["out"], "distill": document["distill"]}
    given |= document.get("origin") or {}
    section = Section(
        title=f"{document['out']}: fine-tuned on {document['task']}",
        headline=_headline(document),
        facts={
            "model": document["model"],
            "teacher": document["distill"] or "none",
            "head": document["head"],
            "trained parameters": f"{document['trained_parameters']:,}",
            "mean loss": f"{document['train_loss']:.4f}",
            "score on the training rows": points(document["train_score"]),
            "time": f"{document['seconds']:,.1f} s",
        },
        charts=[Chart("Score in points, with one standard error of the gain", bars)],
        tables=[Table("Metrics", ["metric", "before", "after"], rows, [f"Points, {document['n']:,} rows."])],
        settings=named(settings),
        versions=document["versions"],
        command=command("finetune", document["model"], **given, **unusual(settings, Recipe())),
    )
    return [section]


def _headline(document: Document) -> str:
    start = f"{document['model']} has {points(document['score'])} points on {document['task']} after fine-tuning"
    if document["gain"] is None:
        return f"{start}."
    change = "more" if document["gain"] >= 0 else "fewer"
    return f"{start}, {abs(document['gain']):.2f} ± {document['se']:.2f} {change} than before."
