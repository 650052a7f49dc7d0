"""Talking to the Hugging Face Hub, and giving up within seconds where it does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)

from lpcompress.errors import CheckpointError, MissingCheckpointError

PROBE_SECONDS = 2.5
# OSError, and the base of the errors of whichever HTTP client the Hub's library uses
UNREACHABLE: tuple[Any, ...] = HfHubHTTPError.__bases__
REPOSITORY = "nyu-mll/glue"


def find(model: str, file: str) -> dict[str, Any]:
    """Raise unless a model can be read from the Hub or the local cache; return what `from_pretrained` must be told.

    A Hub that does not answer is given up on within seconds, and the cache is looked into.

    Parameters
    ----------
    model : str
        A Hub id.
    file : str
        A file that every model has.

    Returns
    -------
    dict
        `{"local_files_only": True}` if the cache must do, else empty.

    Raises
    ------
    MissingCheckpointError
        If there is no such model.
    CheckpointError
        If the id is malformed, the model is gated or lacks `file`, or neither the Hub nor the cache has it to give.
    """
    try:
        url = huggingface_hub.hf_hub_url(model, file)
        ask(url)
        huggingface_hub.get_hf_file_metadata(url, timeout=PROBE_SECONDS)
        return {}
    except HFValidationError:
        raise CheckpointError(
            f"{model!r} must be a local directory or a Hub id such as 'roberta-base' or 'user/model' (letters,"
            " digits, '-', '_' and '.')."
        ) from None
    except GatedRepoError:
        raise CheckpointError(
            f"{model} is gated: ask for access on https://huggingface.co/{model}, then run: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise MissingCheckpointError(
            f"{model} is neither a local directory nor a model on the Hub. Check the spelling; if it is private, run:"
            " hf auth login"
        ) from None
    except EntryNotFoundError:
        raise CheckpointError(f"{model} on the Hub must hold {file}, which it lacks.") from None
    except UNREACHABLE as error:
        return from_cache(model, file, error)


def from_cache(model: str, file: str, error: Exception) -> dict[str, Any]:
    """Fall back to the local cache after `error`: return what `from_pretrained` must be told, or raise."""
    if cached(model, file):
        return {"local_files_only": True}
    local = Path(model).parent != Path() and Path(model).parent.is_dir()  # it looks like one of that directory's
    raise (MissingCheckpointError if local else CheckpointError)(
        f"{model} is no local directory, is not in the local cache, and the Hub cannot be reached"
        f" ({type(error).__name__}). Check the network and HF_HUB_OFFLINE, or give a local directory."
    ) from None


def cached(model: str, file: str) -> Path | None:
    """Return where a file of a model lies in the local cache, None if it is not there."""
    found = huggingface_hub.try_to_load_from_cache(model, file)
    return Path(found) if isinstance(found, str) else None


def ask(url: str) -> None:
    """Raise one of `UNREACHABLE` if the Hub does not answer within seconds; any response is an answer.

    The request is bare, because the headers that the Hub's library adds may cost another request first.
    """
    huggingface_hub.get_session().head(url, timeout=PROBE_SECONDS)


def answers() -> bool:
    """Tell whether the Hub can be reached."""
    try:
        ask(huggingface_hub.hf_hub_url(REPOSITORY, "README.md", repo_type="dataset"))
    except UNREACHABLE:
        return False
    return True


@contextmanager
def asked_once() -> Iterator[None]:
    """Work from the local cache, as with HF_HUB_OFFLINE=1, while the block runs, if the Hub does not answer.

    Without this every file of every model would wait for its own time-out. The environment variable is only read when
    huggingface_hub is imported; from then on its library looks at this constant at each request and has no other
    switch, so the constant is set, and given back when the block ends, however it ends.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
