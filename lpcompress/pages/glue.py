"""Sections for the JSON of `eval-glue`."""

from collections.abc import Mapping, Sequence
from typing import Any

from lpcompress.config.plan import Plan
from lpcompress.config.scoring import Scoring
from lpcompress.pages.commands import command, unusual
from lpcompress.pages.sections import Bar, Chart, Document, Section, Table, named
from lpcompress.presentation import points


def sections_of(document: Document) -> list[Section]:
    """Return the section of an evaluation, with one method or several."""
    methods: Mapping[str, Document] = document.get("methods") or {"": document}
    gates = document.get("gates")
    plans = [each["settings"].get("compression") for each in methods.values()]
    asked = _asked(plans[0], list(methods)) if plans[0] else {}
    settings = {key: value for key, value in document["settings"].items() if key != "compression"} | asked
    settings |= document.get("origin") or {}
    limits = {key: gates[key] for key in ("max_drop", "min_recovery") if gates} if gates else {}
    section = Section(
        title=f"GLUE, {document['caption']}: {document['model']}",
        headline=_headline(document, methods),
        good=gates["passed"] if gates else None,
        facts={name: document[name] for name in ("model", "baseline") if document[name]},
        charts=_charts(methods),
        tables=[_table(methods, compared=document["baseline"] is not None)],
        notes=[*(gates["failures"] if gates else ()), *_reasons(methods)],
        settings=named(settings | limits),
        versions=document["versions"],
        command=_command(document, methods, asked, limits),
    )
    return [section]


def _headline(document: Document, methods: Mapping[str, Document]) -> str:
    drops = {name: found["average_drop"] for name, found in methods.items() if found.get("average_drop") is not None}
    if not drops:
        average = next(iter(methods.values()))["average"]
        return f"{document['model']} has an average of {points(average)} points."
    best = min(drops, key=lambda name: drops[name])
    found, drop = methods[best], drops[best]
    who = "The compressed model" if not best else f"{best}, the best of {len(methods)} methods,"
    change = f"loses {drop:z.2f}" if drop > -0.005 else f"gains {-drop:.2f}"
    scored = sum(entry.get("score") is not None for entry in found["tasks"].values())
    return (
        f"{who} {change} ± {found['average_drop_se']:.2f} points on average over {scored} task{'s' * (scored > 1)}"
        f" ({points(found['baseline_average'])} before, {points(found['average'])} after)."
    )


def _charts(methods: Mapping[str, Document]) -> list[Chart]:
    bars = [
        Bar(f"{key} {name}".strip(), entry["drop"], f"{entry['drop']:z.2f} ± {entry['se']:.2f}", entry["se"], series)
        for key in next(iter(methods.values()))["tasks"]
        for series, (name, found) in enumerate(methods.items(), start=1)
        if (entry := found["tasks"][key]).get("drop") is not None
    ]
    title = "Drop in points, with one standard error; to the left of the line the compressed model is better"
    return [Chart(title, bars)] if bars else []


def _table(methods: Mapping[str, Document], compared: bool) -> Table:
    first = next(iter(methods.values()))
    names = list(methods) if len(methods) > 1 else ["compressed" if compared else "score"]
    after = [heading for name in names for heading in ([name, "drop ± se"] if compared else [name])]
    rows = [
        [key, *_cells(entry, [found["tasks"][key] for found in methods.values()], compared)]
        for key, entry in first["tasks"].items()
    ]
    means = [_mean(found) for found in methods.values()]
    rows.append(["average", *_cells(means[0], means, compared)])
    note = f"Points, 0 to 100. {first['formula']}."
    return Table("Scores", ["task", "rows", *["base"] * compared, *after], rows, [note], total=True)


def _mean(found: Document) -> dict[str, Any]:
    names = {"score": "average", "baseline_score": "baseline_average", "drop": "average_drop", "se": "average_drop_se"}
    return {key: found.get(name) for key, name in names.items()}


def _cells(first: Document, entries: Sequence[Document], compared: bool) -> list[str]:
    """Return the cells of a row: rows, base, and score and drop of each method."""
    cells = [f"{first['n']:,}" if "n" in first else "", *[points(first.get("baseline_score"))] * compared]
    for entry in entries:
        cells.append(entry["status"] if entry.get("reason") else points(entry.get("score")))
        if compared:
            cells.append("" if entry.get("drop") is None else f"{entry['drop']:z.2f} ± {entry['se']:.2f}")
    return cells


def _reasons(methods: Mapping[str, Document]) -> list[str]:
    found = (
        f"{key} {entry['status']}: {entry['reason']}"
        for each in methods.values()
        for key, entry in each["tasks"].items()
        if entry.get("reason")
    )
    return list(dict.fromkeys(found))


def _asked(plan: Document, methods: list[str]) -> dict[str, Any]:
    """Return the options of a plan that differ from their defaults, and the ratio."""
    asked = unusual(plan, Plan()) | {key: value for key, value in plan.items() if key == "ratio"}
    if len(methods) > 1:
        asked = {key: value for key, value in asked.items() if key != "method"} | {"methods": ",".join(methods)}
    return asked


def _command(
    document: Document, methods: Mapping[str, Document], asked: dict[str, Any], limits: dict[str, Any]
) -> str | None:
    if asked.get("allocation") or (document["model"] == document["baseline"] and not asked):
        return None  # a plan from a file, or scores of `compress --eval-glue`
    baseline = None if asked else document["baseline"]
    scoring = unusual(document["settings"], Scoring())
    tasks = ",".join(next(iter(methods.values()))["tasks"])
    given = (document.get("origin") or {}) | scoring | asked | limits
    return command("eval-glue", document["model"], tasks=tasks, baseline=baseline, **given)
