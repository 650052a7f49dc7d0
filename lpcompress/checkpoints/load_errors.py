"""Convert the exceptions of transformers on bad checkpoints to CheckpointError."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from lpcompress.checkpoints.files import CONFIG
from lpcompress.errors import CheckpointError, LpCompressError

LOAD_ERRORS = (
    *(OSError, ValueError, RuntimeError, ImportError, KeyError),
    *(SafetensorError, StrictDataclassError, pickle.UnpicklingError),
)


@contextmanager
def readable(model: str) -> Iterator[None]:
    """Convert any exception of transformers while it reads `model` to a CheckpointError with a one-line message."""
    try:
        yield
    except LpCompressError:
        raise
    except LOAD_ERRORS as error:
        reason = in_one_line(error)
        if "ignore_mismatched_sizes" in reason:  # advice that would lead to random weights
            reason = f"The sizes of its weights differ from those in its {CONFIG}."
        raise CheckpointError(f"{model} cannot be loaded. {reason}") from error


def in_one_line(error: Exception) -> str:
    """Return an error's class and the first line of its message, plus the next line if the first ends with a colon."""
    first, *rest = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    message = " ".join([first, *rest[:1]]) if first.endswith(":") else first
    return f"{type(error).__name__}: {message}"
