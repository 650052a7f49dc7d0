"""What transformers raises on a bad checkpoint, turned into one sentence."""

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
    """Raise CheckpointError, with one sentence, for whatever transformers raises while it reads `model`."""
    try:
        yield
    except LpCompressError:
        raise
    except LOAD_ERRORS as error:
        reason = in_one_line(error)
        if "ignore_mismatched_sizes" in reason:  # to advise that would be to advise random weights
            reason = f"Its weights are of other sizes than its {CONFIG} says."
        raise CheckpointError(f"{model} cannot be loaded. {reason}") from error


def in_one_line(error: Exception) -> str:
    """Return an error's class and the first line of its message; the next too if the first only announces it."""
    first, *rest = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    message = " ".join([first, *rest[:1]]) if first.endswith(":") else first
    return f"{type(error).__name__}: {message}"
