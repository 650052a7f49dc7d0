"""What is printed where, and by whom."""

import logging
import warnings

import pytest

from lpcompress.cli.terminal import DEBUG, Terminal


@pytest.fixture
def said(capsys):
    """What was printed on stdout and stderr since the last call."""
    return lambda: tuple(capsys.readouterr())


def test_steps_are_lines_where_there_is_no_terminal(said):
    with Terminal().progress() as progress:
        progress("loading")
        progress("training", 1, 2)
        progress("training", 2, 2)
    assert said() == ("", "loading\ntraining\n")


@pytest.mark.parametrize("terminal", [Terminal(quiet=True), Terminal(speaks=False)])
def test_a_quiet_terminal_shows_no_progress(said, terminal):
    with terminal.progress() as progress:
        progress("loading")
    terminal.remark("by the way")
    assert said() == ("", "")


def test_results_and_errors_are_said_even_by_a_quiet_terminal(said):
    terminal = Terminal(quiet=True)
    terminal.show("result")
    terminal.complain("Error: two\nlines")
    assert said() == ("result\n", "Error: two lines\n")


def test_other_processes_than_the_first_say_nothing(said, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    terminal = Terminal.of_process()
    terminal.show("result")
    terminal.complain("Error")
    assert (terminal.speaks, said()) == (False, ("", ""))


@pytest.mark.parametrize(
    ("terminal", "lines"),
    [
        (Terminal(), ["Warning: mind this", "careful"]),
        (Terminal(verbose=True), ["Warning: mind this", "done", "careful"]),
        (Terminal(quiet=True), []),
    ],
)
@pytest.mark.filterwarnings("always")
def test_warnings_and_the_log_are_lines(said, terminal, lines):
    log, show = logging.getLogger("lpcompress.somewhere"), warnings.showwarning
    with terminal.listening():
        terminal.settle()
        warnings.warn("mind\nthis", UserWarning, stacklevel=1)
        log.info("done")
        log.warning("careful")
    assert said()[1].splitlines() == lines
    assert warnings.showwarning is show and logging.getLogger("lpcompress").handlers == []


@pytest.mark.parametrize(("value", "debug"), [("1", True), ("", False)])
def test_the_environment_asks_for_tracebacks(monkeypatch, value, debug):
    monkeypatch.setenv(DEBUG, value)
    assert Terminal.of_process().debug is debug
