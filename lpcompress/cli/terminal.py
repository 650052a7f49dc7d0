"""What people and pipes see: results on stdout, all else on stderr."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

FILE_WIDTH = 160  # columns of a table that goes into a file or a pipe


def complain(text: str) -> None:
    """Write a line to stderr."""
    typer.echo(" ".join(text.split()), err=True)


def show(*results: object) -> None:
    """Write results to stdout: text as it is, tables as wide as the terminal, uncut where there is none."""
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    for result in results:
        if isinstance(result, str):
            typer.echo(result.rstrip("\n"))
        else:
            console.print(result)


def quiet_libraries() -> None:
    """Keep the bars and advice of transformers off the terminal; its warnings stay."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()


def only_first_process_speaks() -> None:
    """Silence all but the first of the processes that a launcher started for one run."""
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # as long as the process lives


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float, float], None]]:
    """Yield `progress(description, done, total)`: bars on a terminal, a line for each step elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    steps: set[str] = set()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None)

        def progress(description: str, done: float, total: float) -> None:
            bars.update(bar, description=description, completed=done, total=total or None)
            if not console.is_terminal and description not in steps:
                complain(description)
            steps.add(description)

        yield progress
