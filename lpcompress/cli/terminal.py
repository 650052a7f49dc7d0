"""What people and pipes see: results on stdout, all else on stderr."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from lpcompress.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

DEBUG = "LPCOMPRESS_DEBUG"
FILE_WIDTH = 160  # columns of a table that goes into a file or a pipe


@dataclass
class Terminal:
    """Where a command says what it has to say; the only object that prints.

    Attributes
    ----------
    speaks : bool
        Whether anything is printed at all: of the processes that a launcher started for one run, only the first does.
    quiet : bool
        Print no progress, log lines or warnings: only errors and results.
    verbose : bool
        Print log lines of what is done, too.
    debug : bool
        Show the traceback of a known error.
    """

    speaks: bool = True
    quiet: bool = False
    verbose: bool = False
    debug: bool = False

    @classmethod
    def of_process(cls) -> "Terminal":
        """Return the terminal of this process, by the environment: its launcher's `RANK`, and `LPCOMPRESS_DEBUG`."""
        return cls(speaks=os.environ.get("RANK", "0") == "0", debug=bool(os.environ.get(DEBUG)))

    def show(self, *results: object) -> None:
        """Write results to stdout: text as it is, tables as wide as the terminal, uncut where there is none."""
        if not self.speaks:
            return
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
        for result in results:
            if isinstance(result, str):
                typer.echo(result.rstrip("\n"))
            else:
                console.print(result)

    def complain(self, text: str) -> None:
        """Write an error to stderr, in one line."""
        if self.speaks:
            typer.echo(" ".join(text.split()), err=True)

    def remark(self, text: str) -> None:
        """Write anything less than an error to stderr, in one line."""
        if not self.quiet:
            self.complain(text)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Print warnings and the log of the package meanwhile, each in one line."""
        log, handler, show = logging.getLogger("lpcompress"), _Handler(self), warnings.showwarning
        log.addHandler(handler)
        warnings.showwarning = lambda message, *_, **__: self.remark(f"Warning: {message}")
        try:
            yield
        finally:
            warnings.showwarning = show
            log.removeHandler(handler)
            log.setLevel(logging.NOTSET)

    def settle(self) -> None:
        """Have the log of the package say as much as was asked for."""
        level = logging.INFO if self.verbose else logging.ERROR if self.quiet else logging.WARNING
        logging.getLogger("lpcompress").setLevel(level)

    def quiet_libraries(self) -> None:
        """Keep the bars and advice of transformers off the terminal; its warnings stay, unless this one is quiet."""
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        from transformers.utils import logging as transformers_log

        transformers_log.disable_progress_bar()
        if self.quiet or not self.speaks:
            transformers_log.set_verbosity_error()

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield what long work tells of itself to: bars on a terminal, a line for each new step elsewhere."""
        if self.quiet or not self.speaks:
            yield Progress()
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
        with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            yield Progress(_Steps(self, bars, lines=not console.is_terminal))


class _Steps:
    """Shows steps as bars, and each new one as a line if asked."""

    def __init__(self, terminal: Terminal, bars: "Bars", lines: bool) -> None:
        self._terminal, self._bars, self._lines = terminal, bars, lines
        self._bar, self._told = bars.add_task("", total=None), set[str]()

    def __call__(self, description: str, done: float | None, total: float | None) -> None:
        self._bars.update(self._bar, description=description, completed=done or 0, total=total)
        if self._lines and description not in self._told:
            self._terminal.remark(description)
        self._told.add(description)


class _Handler(logging.Handler):
    """Writes log records to a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if not record.exc_info:
            self._terminal.remark(record.getMessage())
        elif self._terminal.speaks:  # a bug, whose traceback must keep its lines
            typer.echo(self.format(record), err=True)
