"""Exit codes: the one place that turns known errors into a line on stderr and an exit code."""

import ctypes
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from lpcompress.cli.terminal import Terminal
from lpcompress.errors import LpCompressError, PlanError

M_MMAP_THRESHOLD = -3  # of malloc.h


def run(application: Callable[..., Any], terminal: Terminal) -> NoReturn:
    """Run the application and exit: 0 success, 1 failure, 2 invalid options, 3 a gate failed, 130 interrupted.

    Parameters
    ----------
    application : callable
        A Typer application, called with `obj=terminal`.
    terminal : Terminal
    """
    _return_memory_at_once()
    _end_tidily()
    with terminal.capturing():
        try:
            application(obj=terminal)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
            if code == 130:
                terminal.error("Interrupted. No partial output was left.")
        except (LpCompressError, OSError) as error:  # OSError: a full disk, a directory without write permission
            if terminal.debug:
                raise
            terminal.error(f"Error: {_in_words(error)}")
            code = 2 if isinstance(error, PlanError) else 1
    sys.exit(code)


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return str(error)


def _end_tidily() -> None:
    """Make SIGTERM and SIGHUP end the command as Ctrl-C does, unless they are ignored (nohup)."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _return_memory_at_once() -> None:
    """Make glibc return freed blocks of a megabyte or more to the system, instead of keeping them in its heap.

    Matrices are processed in chunks of a few megabytes; when kept, these freed blocks were a third of the peak memory.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)
