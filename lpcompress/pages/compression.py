"""Sections for `lpcompress.json`, the report of a compressed checkpoint."""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from lpcompress.pages import glue
from lpcompress.pages.commands import command
from lpcompress.pages.sections import Bar, Chart, Document, Section, Table, named, sized
from lpcompress.presentation import dimensions, points

ERRORS = ("error_calibrated", "error_weighted")  # the first that a layer has is what its fit minimised
NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # of a layer, in its name


def sections_of(document: Document) -> list[Section]:
    """Return the section of a compression report, and those of the scores in it."""
    before, after = document["file_bytes_before"], document["file_bytes_after"]
    memory = document.get("bytes_in_memory")
    sizes = [("before", before, 0), ("after", after, 1)] + [("after, in memory", memory, 1)] * bool(memory)
    facts = {
        "model": document["model"],
        "weight files": f"{sized(before)} → {sized(after)}",
        "parameters": f"{document['parameters_before']:,} → {document['parameters_after']:,}",
        "layers replaced": f"{len(document['layers']):,}",
        "data": _data(document),
        "time": f"{document['seconds']:,.1f} s",
        "peak memory": sized(document["peak_rss_bytes"]),
    }
    notes = [*document.get("warnings", ()), *([document["finetuning"]] if document.get("finetuning") else [])]
    if document.get("skipped"):
        notes.append(
            f"{len(document['skipped']):,} of the chosen layers stay dense; the JSON report gives the reasons."
        )
    plan, origin = document.get("plan"), document.get("origin") or {}
    section = Section(
        title=document["out"],
        headline=_headline(document["model"], before, after),
        facts=facts,
        charts=[Chart("Bytes of the weight files", [Bar(name, n, sized(n), 0, s) for name, n, s in sizes])],
        tables=[_layers(document["layers"]), *_spectra(document["layers"]), *_tried(document.get("tried") or ())],
        notes=notes,
        settings=named({"seed": document["seed"]} | origin | (plan or {})),
        versions={"lpcompress": document["lpcompress_version"]},
        command=command("compress", document["model"], **origin, **plan) if plan is not None else None,
    )
    return [section, *(glue.sections_of(document["glue"]) if document.get("glue") else ())]


def _headline(model: str, before: int, after: int) -> str:
    if not before:
        return f"{model} takes {sized(after)}."
    change = f"{1 - after / before:.0%} smaller" if after < before else "no smaller"
    return f"{model} takes {sized(after)} instead of {sized(before)}: {change}."


def _data(document: Document) -> str:
    found = document.get("calibration")
    return f"{found['texts']:,} texts ({found['source']})" if found else "none"


def _layers(layers: Sequence[Document]) -> Table:
    rows = [
        [
            layer["name"],
            dimensions(layer["shape"]),
            f"{layer['method']}, p={layer['p']:g}",
            sized(layer["bytes_before"]),
            sized(layer["bytes_after"]),
            f"{layer['removed']:.1%}",
            *(_error(layer, prefix) for prefix in ("", "svd_")),
        ]
        for layer in layers
    ]
    headings = ["layer", "shape", "method", "before", "after", "removed", "error", "SVD error"]
    note = "removed: share of stored bytes. error: relative, in the norm that the fit minimised; SVD at the same size."
    return Table("Layers", headings, rows, [note])


def _spectra(layers: Sequence[Document]) -> list[Table]:
    """Return the table of the spectra, those of layers whose names differ in a number together; none without any."""
    groups: dict[str, list[Document]] = {}
    for layer in layers:
        if layer.get("energy"):
            groups.setdefault(NUMBER.sub("*", layer["name"]), []).append(layer["energy"])
    rows = [
        [name, f"{len(found):,}", *(f"{fmean(each[share] for each in found):.1%}" for share in found[0])]
        for name, found in groups.items()
    ]
    shares = [f"largest {float(share):.0%}" for found in [*groups.values()][:1] for share in found[0]]
    note = "Share of the sum of squares that is in the largest singular values; mean over the layers of a name."
    return [Table("Spectra", ["layers", "count", *shares], rows, [note])] if rows else []


def _tried(trials: Sequence[Document]) -> list[Table]:
    rows = [
        [
            next(f"{key.replace('_', ' ')} {trial[key]:g}" for key in ("ratio", "target_size") if key in trial),
            sized(trial["bytes"]) if "bytes" in trial else "-",
            points(trial.get("drop")),
            points(trial.get("se")),
            "passes" if trial["passed"] else trial["reason"],
        ]
        for trial in trials
    ]
    note = "In the order of the search for the smallest size that passes. Drop in points, with its standard error."
    return [Table("Sizes tried", ["size", "bytes", "drop", "se", "gates"], rows, [note])] if rows else []


def _error(layer: Document, prefix: str) -> str:
    kind = next((each for each in ERRORS if layer.get(each) is not None), ERRORS[-1])
    value: Any = layer.get(prefix + kind)
    return "-" if value is None else f"{value:.4f}"
