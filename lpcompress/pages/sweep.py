"""Sections for `sweep.json`: plots and a table of its points."""

from collections.abc import Sequence

from lpcompress.pages.commands import command
from lpcompress.pages.plots import Line, Plot
from lpcompress.pages.sections import Document, Section, Table, named, sized
from lpcompress.presentation import points

BOUND = "least error of Gaussian rows"
SIZES = ("ratio", "target_size")
LISTS = ("ratios", "sizes", "methods", "tasks")  # options whose values may be joined by commas


def sections_of(document: Document) -> list[Section]:
    """Return the section of a sweep."""
    made, dense, settings = _made(document), document["dense"], document["settings"]
    words = command("sweep", document["model"], **settings | _joined(settings))
    section = Section(
        title=f"{document['model']}: sizes",
        headline=_headline(document, made),
        facts={"model": document["model"], "dense": sized(dense["bytes"]), "dense score": points(dense["score"])},
        plots=plots_of(document),
        tables=[_table(document["points"])],
        notes=list(dict.fromkeys(point["reason"] for point in document["points"] if point["reason"])),
        settings=named(settings),
        versions=document["versions"],
        command=f"{words} --out sweep",
    )
    return [section]


def plots_of(document: Document) -> list[Plot]:
    """Return the plots of a sweep: error against bytes and, with scores, drop against bytes."""
    made, bound = _made(document), document["bound"]
    if bound:
        lines = _lines(made, "embedding_bytes", "embedding_error")
        curve = [(size, error) for size, error in zip(bound["bytes"], bound["error"], strict=True) if error > 0]
        lines.append(Line(BOUND, curve, series=0, dashed=True))
        first = Plot("Error of the word embedding", "bytes of the embedding", "relative error", lines, log=True)
    else:
        lines = _lines(made, "bytes", "error")
        first = Plot("Error of the layers", "bytes of the weight files", "relative error", lines, log=True)
    if not any(point["drop"] is not None for point in made):
        return [first]
    drops = _lines(made, "bytes", "drop", "drop_se")
    return [first, Plot("Points lost, mean over tasks", "bytes of the weight files", "drop ± standard error", drops)]


def _made(document: Document) -> list[Document]:
    return [point for point in document["points"] if point.get("error") is not None]


def _lines(made: Sequence[Document], x: str, y: str, error: str = "") -> list[Line]:
    lines = []
    for series, method in enumerate(dict.fromkeys(point["method"] for point in made), start=1):
        own = sorted(
            (each for each in made if each["method"] == method and each[y] is not None), key=lambda each: each[x]
        )
        own = [each for each in own if each[y] > 0 or error]  # a logarithmic axis has no 0
        if own:
            errors = [each[error] or 0.0 for each in own] if error else []
            lines.append(Line(method, [(each[x], each[y]) for each in own], errors, series))
    return lines


def _headline(document: Document, made: Sequence[Document]) -> str:
    scored = [point for point in made if point["drop"] is not None]
    dense = document["dense"]["bytes"]
    if not scored:
        least = min(made, key=lambda point: point["bytes"])
        return (
            f"{document['model']} in {sized(least['bytes'])} instead of {sized(dense)} has an error of"
            f" {least['error']:.3f} ({least['method']})."
        )
    held = [point for point in scored if point["drop"] <= max(1.0, point["drop_se"])] or scored
    least = min(held, key=lambda point: point["bytes"])
    return (
        f"{document['model']} in {sized(least['bytes'])} instead of {sized(dense)} loses {least['drop']:z.2f} ±"
        f" {least['drop_se']:.2f} points ({least['method']})."
    )


def _table(found: Sequence[Document]) -> Table:
    rows = [
        [
            f"{point['method']}, {_size(point)}",
            sized(point["bytes"]) if "bytes" in point else "-",
            *(f"{point[key]:.4f}" if point.get(key) is not None else "-" for key in ("error", "bound")),
            points(point["drop"]),
            points(point["drop_se"]),
        ]
        for point in found
    ]
    note = f"error: relative, of the layers. bound: {BOUND} of the embedding's lengths and spectrum, at its size."
    return Table("Points", ["method, size", "bytes", "error", "bound", "drop", "se"], rows, [note])


def _size(point: Document) -> str:
    return next(f"{key.replace('_', ' ')} {point[key]:g}" for key in SIZES if key in point)


def _joined(settings: Document) -> dict[str, str]:
    """Return the lists that `sweep` takes as one word."""
    lists = {key: settings[key] for key in LISTS if settings.get(key)}
    return {
        key: ",".join(f"{each:g}" if isinstance(each, float) else each for each in values)
        for key, values in lists.items()
    }
