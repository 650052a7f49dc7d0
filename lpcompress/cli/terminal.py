"""Output of the command line: results on stdout, everything else on stderr."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from lpcompress.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

DEBUG = "LPCOMPRESS_DEBUG"
IMPORTING = "loading torch and transformers ..."
SPINS = "GOMP_SPINCOUNT", "1000"
"""How often a thread of torch looks for work before it sleeps, unless the user says how threads wait. By default it is
300,000 times: beside two other busy processes on two cores, threads without work then take the time of those that have
some, and `compress` took more than 200 s instead of 46."""

FILE_WIDTH = 160  # columns of a table written to a file or a pipe

UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x80-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that command a terminal, reverse the text after them or cannot be encoded. DEL is not among them: it does
no harm, and JSON writes it as it is."""

TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")  # of an account on the Hub; an error of another package might quote one


@dataclass
class Terminal:
    """Output of a command; the only object that prints.

    Attributes
    ----------
    prints : bool
        Whether to print anything. If a launcher started several processes for one run, only the first prints.
    quiet : bool
        Whether to print only errors and results: no progress, log lines or warnings.
    verbose : bool
        Whether to print informational log lines as well.
    debug : bool
        Whether to show the traceback of a known error.
    """

    prints: bool = True
    quiet: bool = False
    verbose: bool = False
    debug: bool = False

    @classmethod
    def of_process(cls) -> "Terminal":
        """Return the terminal of this process, from the environment variables `RANK` and `LPCOMPRESS_DEBUG`."""
        return cls(prints=os.environ.get("RANK", "0") == "0", debug=bool(os.environ.get(DEBUG)))

    def show(self, *results: object) -> None:
        """Write results to stdout: text unchanged, tables as wide as the terminal, or 160 columns without one."""
        if not self.prints:
            return
        width = None if sys.stdout.isatty() else FILE_WIDTH
        console = _safe_console(width=width, markup=False, emoji=False)  # names are shown as they are
        for result in results:
            if isinstance(result, str):
                typer.echo(printable(result.rstrip("\n")))
            else:
                console.print(result)

    def aside(self, table: object) -> None:
        """Write a table to stderr, unless quiet: how a result came about."""
        if self.prints and not self.quiet:
            width = None if sys.stderr.isatty() else FILE_WIDTH
            _safe_console(stderr=True, width=width, markup=False, emoji=False).print(table)

    def sketch(self, drawn: Callable[[int], str]) -> None:
        """Write a drawing in characters to stderr, if that is a terminal that can show it, unless quiet.

        Parameters
        ----------
        drawn : callable
            Returns the drawing for a terminal of so many columns.
        """
        if self.prints and not self.quiet:
            console = _safe_console(stderr=True, markup=False, emoji=False, highlight=False)
            if console.is_terminal and not console.options.ascii_only:
                console.print(drawn(console.width), overflow="crop", no_wrap=True)

    def error(self, text: str) -> None:
        """Write an error to stderr, on one line."""
        if self.prints:
            typer.echo(printable(" ".join(text.split())), err=True)

    def explain(self, text: str) -> None:
        """Write a text of several lines to stderr, in place of a result."""
        if self.prints:
            typer.echo("\n".join(map(printable, text.splitlines())), err=True)

    def note(self, text: str) -> None:
        """Write a warning or a message to stderr, on one line, unless quiet."""
        if not self.quiet:
            self.error(text)

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Print warnings and the package's log records inside the block, each on one line."""
        log, handler, show = logging.getLogger("lpcompress"), _Handler(self), warnings.showwarning
        log.addHandler(handler)
        warnings.showwarning = lambda message, *_, **__: self.note(f"Warning: {message}")
        try:
            yield
        finally:
            warnings.showwarning = show
            log.removeHandler(handler)
            log.setLevel(logging.NOTSET)

    def set_log_level(self) -> None:
        """Set the package's log level from `quiet` and `verbose`."""
        level = logging.INFO if self.verbose else logging.ERROR if self.quiet else logging.WARNING
        logging.getLogger("lpcompress").setLevel(level)

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Say so on a terminal while torch and transformers are imported inside the block, which takes seconds.

        Progress bars and advice of transformers are hidden from then on; its warnings stay, unless this terminal is
        quiet.
        """
        shown = IMPORTING if self.prints and not self.quiet and sys.stderr.isatty() else ""
        typer.echo(shown, err=True, nl=False)
        try:
            os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
            if "OMP_WAIT_POLICY" not in os.environ:
                os.environ.setdefault(*SPINS)
            from transformers.utils import logging as transformers_log

            transformers_log.disable_progress_bar()
            if self.quiet or not self.prints:
                transformers_log.set_verbosity_error()
            yield
        finally:
            typer.echo(shown and f"\r{' ' * len(shown)}\r", err=True, nl=False)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield a progress callback that shows bars on a terminal, and a line for each new step elsewhere."""
        if self.quiet or not self.prints:
            yield Progress()
            return
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        console = _safe_console(stderr=True)
        remaining = TimeRemainingColumn(), TextColumn("left")
        columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), *remaining
        with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            yield Progress(_Steps(self, bars, lines=not console.is_terminal))


def printable(text: str) -> str:
    r"""Return a text with a replacement character for each one that a terminal would obey, and without tokens.

    Names of layers, of files and in configs come from checkpoints, and so from anybody.

    Examples
    --------
    >>> printable("red \x1b[31m")
    'red �[31m'
    """
    return TOKEN.sub("hf_...", UNPRINTABLE.sub("�", text))


def _safe_console(**options: Any) -> "Console":
    """Return a console of rich that shows texts as `printable` returns them, wherever they stand in a table or bar."""
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        def render(self, *args: Any, **kwargs: Any) -> "Iterator[Segment]":
            for text, style, control in super().render(*args, **kwargs):
                yield Segment(text if control else printable(text), style, control)  # control: rich's own codes

    return SafeConsole(**options)


class _Steps:
    """Progress callback that shows steps as bars and, with `lines`, prints each new step on a line."""

    def __init__(self, terminal: Terminal, bars: "Bars", lines: bool) -> None:
        self._terminal, self._bars, self._lines = terminal, bars, lines
        self._bar, self._seen, self._last = bars.add_task("", total=None), set[str](), 0.0

    def __call__(self, description: str, done: float | None, total: float | None) -> None:
        if (done or 0) < self._last:  # another piece of work: its time left does not follow from the speed of the last
            self._bars.reset(self._bar, total=total)
        self._last = done or 0
        self._bars.update(self._bar, description=description, completed=done or 0, total=total)
        if self._lines and description not in self._seen:
            self._terminal.note(description)
        self._seen.add(description)


class _Handler(logging.Handler):
    """Log handler that prints records through a `Terminal`."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if not record.exc_info:
            self._terminal.note(record.getMessage())
        elif self._terminal.prints:  # a bug; its traceback keeps its line breaks
            typer.echo(printable(self.format(record)), err=True)
