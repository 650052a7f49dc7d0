"""Run the examples of a page in order, in the current directory: python run_page.py PAGE.

Blocks in one interpreter share their names, as a reader's session does. Commands of lpcompress run in it too, because
starting Python anew for each would take minutes. A comment of HTML on the line before a block says what is special:

    <!-- not run: reason -->
    <!-- needs: package -->       passed over where the package is not installed
    <!-- exit: 3 -->              the exit code of the block's last command
"""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(
    r"(?:<!-- (?P<what>[^:\n]+): (?P<why>[^\n]+) -->\n\n?)?```(?P<language>\w*)\n(?P<text>.*?)```\n", re.S
)
SHOWN = ("text", "html", "mermaid")  # output, layouts and diagrams


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its line, language, text, and what the comment before it says."""

    line: int
    language: str
    text: str
    what: str
    why: str


def blocks_of(page):
    """Return the blocks of a page."""
    text = page.read_text()
    return [
        Block(text[: found.start("text")].count("\n"), found["language"], found["text"], found["what"], found["why"])
        for found in BLOCK.finditer(text)
    ]


def runs(block):
    """Return whether a block is more than something to look at."""
    return block.what != "not run" and block.language not in SHOWN


def run(block, names):
    """Run a block, or read it, if it is data; `names` are the variables of the page."""
    if not runs(block):
        return
    if block.what == "needs" and importlib.util.find_spec(block.why) is None:
        return
    if block.language == "python":
        exec(compile("\n" * block.line + block.text, names["__name__"], "exec"), names)
    elif block.language == "bash":
        commands = [shlex.split(line, comments=True) for line in block.text.replace("\\\n", " ").splitlines()]
        commands = [command for command in commands if command]
        codes = [0] * (len(commands) - 1) + [int(block.why) if block.what == "exit" else 0]
        for command, code in zip(commands, codes, strict=True):
            got = perform(command)
            assert got == code, f"{shlex.join(command)}: exit code {got}, not {code}"
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "json":
        json.loads(block.text)
    else:
        raise AssertionError(f"a block must say its language: python, bash, yaml, json or text. Got {block.language!r}")


def perform(command):
    """Run a command of lpcompress and return its exit code; of other commands, check that what they name is there."""
    program, *arguments = command
    if program == "lpcompress":
        return lpcompress(arguments)
    if program == "pip":
        extras = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
        known = (ROOT / "pyproject.toml").read_text()
        return int(not all(f"\n{extra} = [" in known for some in extras for extra in some.split(",")))
    if program == "make":
        return int(f"\n{arguments[0]}:" not in (ROOT / "Makefile").read_text())
    if program == "python" and arguments[0].startswith("scripts/"):
        return int(not (ROOT / arguments[0]).is_file())
    raise AssertionError(f"{program} is not known here. Say why it does not run: <!-- not run: reason -->")


def lpcompress(arguments):
    from lpcompress.cli.app import main

    sys.argv = ["lpcompress", *arguments]
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            main()
    except SystemExit as end:
        if end.code:
            sys.stderr.write(output.getvalue()[-2000:])
        return end.code


if __name__ == "__main__":
    here = Path(sys.argv[1])
    shared = {"__name__": f"{here.name}"}
    for each in blocks_of(here):
        try:
            run(each, shared)
        except BaseException:
            traceback.print_exc()
            sys.exit(f"{here}, line {each.line}: this example does not work:\n{each.text}")
