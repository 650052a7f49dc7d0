"""Fill the templates: one HTML file that needs nothing else, and one of Markdown."""

from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lpcompress.pages.sections import Section, sized
from lpcompress.version import __version__

TEMPLATES = Path(__file__).parent / "templates"


def as_html(sections: Sequence[Section]) -> str:
    """Return one HTML page: light and dark, for screens of any width and for paper, without any request."""
    return _templates().get_template("report.html").render(sections=sections, version=__version__)


def as_markdown(sections: Sequence[Section]) -> str:
    """Return one Markdown page; charts are left out, as all their numbers are in the tables."""
    return _templates().get_template("report.md").render(sections=sections, version=__version__)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["plain"], found.filters["sized"] = plain, sized
    return found


def plain(text: str) -> str:
    r"""Return a text for Markdown in which nothing is markup: names come from checkpoints, and so from anybody.

    Examples
    --------
    >>> plain("<b>a|b*\nc")
    '&lt;b&gt;a\\|b\\* c'
    """
    text = escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{character}" if character in "\\`*_[]|#" else character for character in text)
