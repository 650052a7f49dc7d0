"""What MkDocs does to our pages besides Markdown: the reference from the code, links out of docs/, local paths.

`<!-- commands -->` becomes the reference of the command line, and `<!-- names -->` that of the public Python names.
"""

import re
from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from typer.main import get_command

import lpcompress
from lpcompress.cli.app import COMMANDS, application
from lpcompress.nn import __all__ as layers

OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]+)\)")
"""A Markdown link upwards."""

NEAR = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"  # a number and its standard error stay on one line


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page with its reference filled in and without links to files that are no pages."""
    markdown = markdown.replace("<!-- commands -->", _commands()).replace("<!-- names -->", _names())
    depth = len(PurePosixPath(page.file.src_uri).parents) - 1  # folders below docs/

    def within(link: re.Match[str]) -> str:
        return link[0] if link[2].count("../") <= depth else link[1] if "`" in link[1] else f"`{link[1]}`"

    return OUTSIDE.sub(within, markdown).replace(" ± ", NEAR)


def _commands() -> str:
    """Return a section for every command, from the objects that parse the command line."""
    group: Any = get_command(application(COMMANDS))
    sections = ["## Before the command", _options(group)]
    for row in COMMANDS:
        command = group.commands[row.name]
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        usage = " ".join(["lpcompress", row.name, *(each.metavar for each in arguments), "[OPTIONS]"])
        text = re.sub(r"^Example: (.*)$", r"```text\n\1\n```", command.help, flags=re.M)
        about = [f"- `{each.metavar}`: {_sentence(each.help)}" for each in arguments]
        sections += [f"## {row.name}", f"`{usage}`", text, "\n".join(about), _options(command)]
    return "\n\n".join(sections)


def _options(command: Any) -> str:
    """Return a table for each group of options of a command."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for each in command.params:
        if each.param_type_name == "option" and not each.hidden:
            names = ", ".join(f"`{name}`" for name in each.opts)
            takes = "" if each.is_flag else f" `{each.metavar or 'X'}`"
            group = getattr(each, "rich_help_panel", None) or "Options"
            groups[group].append(f"| {names}{takes.replace('|', chr(92) + '|')} | {_sentence(each.help)} |")
    return "\n\n".join(
        f"**{name}**\n\n| option | what it does |\n|---|---|\n" + "\n".join(rows) for name, rows in groups.items()
    )


def _sentence(text: str | None) -> str:
    """Return a help text as Markdown shows it, for a cell of a table."""
    return (text or "").replace("|", "&#124;").replace("<", "&lt;").replace("*", r"\*")


def _names() -> str:
    """Return a section for every public name; names are imported on first use, so their homes are read instead."""
    homes = {f"lpcompress.{name}": f"{home}.{name}" for name, home in lpcompress._HOMES.items()}
    sections = [
        f"## {name}\n\n::: {home}\n    options: {{show_root_heading: false, show_root_toc_entry: false}}"
        for name, home in homes.items()
    ]
    return "\n\n".join(sections) + "\n\n## lpcompress.nn\n\n" + ", ".join(f"`{name}`" for name in layers) + "."
