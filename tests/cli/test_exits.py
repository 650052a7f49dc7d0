"""Tests of exit codes, errors on one line and signals."""

import signal
import sys
import warnings

import pytest

from lpcompress.checkpoints import densifying, files
from lpcompress.cli import app
from lpcompress.cli.terminal import DEBUG
from lpcompress.errors import LpCompressError, PlanError


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (LpCompressError("no"), 1, "Error: no"),
        (PlanError("no"), 2, "Error: no"),
        (OSError(28, "No space left on device", "out/x"), 1, "Error: out/x: No space left on device"),
        (KeyboardInterrupt(), 130, "Interrupted. No partial output was left."),
    ],
)
def test_exit_codes(run, monkeypatch, raised, code, line):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(densifying, "densify", fail)
    got, out, err = run("densify", "a", "b")
    assert (got, out, err.strip()) == (code, "", line)


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(densifying, "densify", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["lpcompress", "densify", "a", "b"])
    with pytest.raises(ZeroDivisionError):
        app.main()


def test_debug_shows_the_traceback_of_a_known_error(monkeypatch):
    monkeypatch.setenv(DEBUG, "")
    monkeypatch.setattr(sys, "argv", ["lpcompress", "--debug", "compress", "x", "--ratio", "28"])
    with pytest.raises(PlanError):
        app.main()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_kill_and_a_closed_terminal_end_like_ctrl_c(run, monkeypatch, number):
    signal.signal(number, signal.SIG_DFL)  # in case the tests run under nohup
    monkeypatch.setattr(densifying, "densify", lambda *_, **__: signal.raise_signal(number))
    code, _, err = run("densify", "a", "b")
    assert (code, "Interrupted" in err) == (130, True)


def test_under_nohup_a_closed_terminal_ends_nothing(run, monkeypatch):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(densifying, "densify", lambda *_, **__: signal.raise_signal(signal.SIGHUP))
    code, _, err = run("densify", "a", "b")
    assert (code, "Interrupted" in err) == (0, False)


def test_a_warning_is_one_line(run, monkeypatch):
    monkeypatch.setattr(files, "file_bytes", lambda _: 1_000_000)
    monkeypatch.setattr(densifying, "densify", lambda *_, **__: warnings.warn("mind\nthis", UserWarning, stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = run("densify", "a", "b")
    assert (code, err) == (0, "Warning: mind this\n")


def test_the_environment_shows_the_traceback_too(monkeypatch):
    monkeypatch.setenv(DEBUG, "1")
    monkeypatch.setattr(sys, "argv", ["lpcompress", "compress", "x", "--ratio", "28"])
    with pytest.raises(PlanError):
        app.main()


def test_debug_does_not_change_the_environment(run, monkeypatch):
    monkeypatch.setattr(densifying, "densify", lambda *_, **__: None)
    monkeypatch.setattr(files, "file_bytes", lambda _: 1)
    assert run("--debug", "densify", "a", "b")[0] == 0
    assert run("compress", "x", "--ratio", "28")[0] == 2
