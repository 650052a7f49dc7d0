"""Tests of what is printed, on which stream and by which process."""

import io
import json
import logging
import os
import warnings

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from lpcompress.cli.terminal import DEBUG, IMPORTING, Terminal, _safe_console, _Steps
from lpcompress.presentation import as_json, plain_table


@pytest.fixture
def printed(capsys):
    """A function that returns what was printed on stdout and stderr since its last call."""
    return lambda: tuple(capsys.readouterr())


def test_steps_are_lines_without_a_terminal(printed):
    with Terminal().progress() as progress:
        progress("loading")
        progress("training", 1, 2)
        progress("training", 2, 2)
    assert printed() == ("", "loading\ntraining\n")


def test_time_left_follows_from_the_speed_of_the_work_shown():
    now = [0.0]
    bars = Bars(console=Console(file=io.StringIO()), get_time=lambda: now[0], auto_refresh=False)
    steps = _Steps(Terminal(), bars, lines=False)
    for second in range(5):  # 10 % a second
        now[0] = float(second)
        steps("query: fitting", second / 10, 1)
    assert bars.tasks[0].time_remaining == 6
    for second in range(5):  # then 1 %
        now[0] = 5.0 + second
        steps("key: fitting", second / 100, 1)
    assert bars.tasks[0].time_remaining == 96


def test_names_are_shown_as_they_are(printed):
    table = plain_table("[/red] a model", "layer")
    table.add_row("[bold] :smile:")
    Terminal().show(table)
    out, _ = printed()
    assert "[/red] a model" in out and "[bold] :smile:" in out


@pytest.mark.parametrize("terminal", [Terminal(quiet=True), Terminal(prints=False)])
def test_a_quiet_terminal_shows_no_progress(printed, terminal):
    with terminal.progress() as progress:
        progress("loading")
    terminal.note("by the way")
    assert printed() == ("", "")


def test_a_quiet_terminal_prints_results_and_errors(printed):
    terminal = Terminal(quiet=True)
    terminal.show("result")
    terminal.error("Error: two\nlines")
    assert printed() == ("result\n", "Error: two lines\n")


def test_only_the_first_process_prints(printed, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    terminal = Terminal.of_process()
    terminal.show("result")
    terminal.error("Error")
    assert (terminal.prints, printed()) == (False, ("", ""))


@pytest.mark.parametrize(
    ("terminal", "lines"),
    [
        (Terminal(), ["Warning: mind this", "careful"]),
        (Terminal(verbose=True), ["Warning: mind this", "done", "careful"]),
        (Terminal(quiet=True), []),
    ],
)
@pytest.mark.filterwarnings("always")
def test_warnings_and_the_log_are_lines(printed, terminal, lines):
    log, show = logging.getLogger("lpcompress.somewhere"), warnings.showwarning
    with terminal.capturing():
        terminal.set_log_level()
        warnings.warn("mind\nthis", UserWarning, stacklevel=1)
        log.info("done")
        log.warning("careful")
    assert printed()[1].splitlines() == lines
    assert warnings.showwarning is show and logging.getLogger("lpcompress").handlers == []


@pytest.mark.parametrize(("value", "debug"), [("1", True), ("", False)])
def test_the_environment_turns_tracebacks_on(monkeypatch, value, debug):
    monkeypatch.setenv(DEBUG, value)
    assert Terminal.of_process().debug is debug


LOGGED = "layer\x1b[2J\x9b31m\x07\u202e"
HOSTILE = f"{LOGGED}\ud800"  # half a character, which pytest itself cannot pass on when it is in a log
HARMLESS = "layer�[2J�31m��"


def test_no_name_commands_the_terminal(printed):
    table = plain_table(HOSTILE, HOSTILE)
    table.caption = HOSTILE
    table.add_row(HOSTILE)
    terminal = Terminal()
    terminal.show(HOSTILE, table)
    terminal.note(HOSTILE)
    with terminal.progress() as progress:
        progress(HOSTILE)
    with terminal.capturing():
        logging.getLogger("lpcompress").warning(LOGGED)
        try:
            raise ValueError(LOGGED)
        except ValueError:
            logging.getLogger("lpcompress").exception("a bug")
    out, err = printed()
    assert not set("\x1b\x9b\x07\u202e\ud800") & set(out + err)
    assert out.count("layer�[2J�31m") == 5 and err.count(HARMLESS) == 4


def test_rich_keeps_its_own_codes():
    console = _safe_console(file=io.StringIO(), force_terminal=True, width=60, markup=False)
    console.print(HOSTILE, style="bold", highlight=False)
    written = console.file.getvalue()
    assert "layer�[2J" in written and "\x1b[1m" in written  # rich's own codes remain


def test_json_is_not_changed(printed):
    document = {"name": "a\x7f\x1b é\t\n"}
    Terminal().show(as_json(document))
    assert json.loads(printed()[0]) == document


@pytest.mark.parametrize(
    ("terminal", "forced", "columns"),
    [
        (Terminal(), "1", "77"),
        (Terminal(), "", None),
        (Terminal(quiet=True), "1", None),
        (Terminal(prints=False), "1", None),
    ],
)
def test_a_drawing_is_for_terminals_only(printed, monkeypatch, terminal, forced, columns):
    monkeypatch.setenv("FORCE_COLOR", forced)  # makes rich believe in a terminal
    monkeypatch.setenv("COLUMNS", "77")
    terminal.sketch(lambda width: f"[bold] {width} ⠒⠒")
    assert printed() == ("", f"[bold] {columns} ⠒⠒\n" if columns else "")


@pytest.mark.parametrize(("terminal", "shown"), [(Terminal(), True), (Terminal(quiet=True), False)])
def test_a_terminal_says_what_the_first_seconds_are_for(printed, monkeypatch, terminal, shown):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with terminal.importing():
        assert printed() == ("", IMPORTING if shown else "")
    assert printed()[1].strip() == ""  # nothing stays on the line


@pytest.mark.parametrize(
    ("policy", "spins", "found"),
    [(None, None, "1000"), (None, "7", "7"), ("active", None, None), ("passive", "7", "7")],
)
def test_threads_soon_sleep_unless_the_user_says_how_they_wait(monkeypatch, policy, spins, found):
    for name, value in {"OMP_WAIT_POLICY": policy, "GOMP_SPINCOUNT": spins}.items():
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    with Terminal(quiet=True).importing():
        assert os.environ.get("GOMP_SPINCOUNT") == found
