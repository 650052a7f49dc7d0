"""Convert the exceptions of transformers on bad checkpoints to CheckpointError."""

from collections.abc import Iterator
from contextlib import contextmanager

from lpcompress.errors import CheckpointError, LpCompressError, cut
from lpcompress.filenames import CONFIG


@contextmanager
def readable(model: str) -> Iterator[None]:
    """Convert any exception while transformers reads `model` to a CheckpointError with a one-line message.

    Any, because a damaged file takes transformers, torch, safetensors and tokenizers through code that expects a good
    one. What fails there is up to chance: KeyError, TypeError, AttributeError, IndexError, AssertionError,
    ZeroDivisionError, OverflowError, RecursionError, MemoryError and more were seen. The cause stays attached, for
    `--debug`.
    """
    try:
        yield
    except LpCompressError:
        raise
    except Exception as error:
        reason = in_one_line(error)
        if "ignore_mismatched_sizes" in reason:  # advice that would lead to random weights
            reason = f"The sizes of its weights differ from those in its {CONFIG}."
        raise CheckpointError(f"{model} cannot be loaded. {reason}") from error


def in_one_line(error: Exception) -> str:
    """Return an error's class and the first line of its message, plus the next line if the first ends with a colon."""
    first, *rest = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    message = " ".join([first, *rest[:1]]) if first.endswith(":") else first
    return cut(f"{type(error).__name__}: {message}" if message else type(error).__name__)
