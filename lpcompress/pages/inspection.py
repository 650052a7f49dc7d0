"""Sections for the JSON of `inspect`: layers and spectrum."""

from lpcompress.pages import compression
from lpcompress.pages.commands import command
from lpcompress.pages.sections import Bar, Chart, Document, Section, Table, sized
from lpcompress.presentation import dimensions


def sections_of(document: Document) -> list[Section]:
    """Return the section of an inspected checkpoint, and those of the compression report in it."""
    rows = [
        [
            group["name"],
            group["kind"],
            f"{group['count']:,}",
            dimensions(group["shape"]),
            f"{group['parameters']:,}",
            f"{group['share']:.1%}",
        ]
        for group in document["groups"]
    ]
    section = Section(
        title=document["model"],
        headline=f"{document['model']} is a {document['architecture']} of {sized(document['bytes'])}.",
        facts={
            "dtype": document["dtype"],
            "parameters": f"{document['parameters']:,}",
            "bytes": sized(document["bytes"]),
        },
        charts=[_spectrum(document["embedding"])] if document["embedding"] else [],
        tables=[Table("Layers", ["layer", "kind", "count", "shape", "parameters", "share"], rows)],
        command=command("inspect", document["model"]),
    )
    return [section, *(compression.sections_of(document["report"]) if document["report"] else ())]


def _spectrum(found: Document) -> Chart:
    bars = [
        Bar(f"largest {float(share):.0%}", 100 * energy, f"{energy:.1%}") for share, energy in found["energy"].items()
    ]
    return Chart(f"Energy of {found['name']} in its singular values", bars)
