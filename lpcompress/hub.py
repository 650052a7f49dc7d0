"""Access to the Hugging Face Hub, with a fallback to the local cache if it does not answer within seconds."""

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
    RevisionNotFoundError,
)

from lpcompress.errors import CheckpointError, MissingCheckpointError

PROBE_SECONDS = 2.5
# OSError, and the base error class of the HTTP client that huggingface_hub uses
UNREACHABLE: tuple[Any, ...] = HfHubHTTPError.__bases__
REPOSITORY = "nyu-mll/glue"


def find(model: str, file: str, revision: str | None = None) -> dict[str, Any]:
    """Check that a model can be read from the Hub or the local cache, and return the arguments for `from_pretrained`.

    If the Hub does not answer within seconds, the local cache is used.

    Parameters
    ----------
    model : str
        A Hub id.
    file : str
        A file that every model has.
    revision : str, optional
        Branch, tag or commit. By default the main branch.

    Returns
    -------
    dict
        `{"local_files_only": True}` if only the cache can be used, else empty.

    Raises
    ------
    MissingCheckpointError
        If there is no such model.
    CheckpointError
        If the id is malformed, the model is gated or lacks `file`, or the Hub does not answer and the cache lacks it.
    """
    try:
        url = huggingface_hub.hf_hub_url(model, file, revision=revision)
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
    except RevisionNotFoundError:
        raise MissingCheckpointError(f"{model} on the Hub has no revision {revision!r}. Check the spelling.") from None
    except EntryNotFoundError:
        raise CheckpointError(f"{model} on the Hub has no {file}, which every model must have.") from None
    except UNREACHABLE as error:
        return from_cache(model, file, error, revision)


def from_cache(model: str, file: str, error: Exception, revision: str | None = None) -> dict[str, Any]:
    """Fall back to the local cache after `error`: return the arguments for `from_pretrained`, or raise."""
    if cached(model, file, revision):
        return {"local_files_only": True}
    local = Path(model).parent != Path() and Path(model).parent.is_dir()  # a path inside an existing directory
    raise (MissingCheckpointError if local else CheckpointError)(
        f"{model} is neither a local directory nor in the local cache, and the Hub cannot be reached"
        f" ({type(error).__name__}). Check the network and HF_HUB_OFFLINE, or give a local directory."
    ) from None


def cached(model: str, file: str, revision: str | None = None) -> Path | None:
    """Return the path of a model's file in the local cache, or None if it is not cached, or `model` is no Hub id."""
    try:
        found = huggingface_hub.try_to_load_from_cache(model, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def listing(model: str, revision: str) -> dict[str, int]:
    """Return name and bytes of every file of a model on the Hub; raises one of `UNREACHABLE` if it does not answer."""
    ask(huggingface_hub.hf_hub_url(model, "config.json"))
    api = huggingface_hub.HfApi()
    found = api.model_info(model, revision=revision, files_metadata=True, timeout=4 * PROBE_SECONDS).siblings
    return {file.rfilename: file.size or 0 for file in found or ()}


def download(model: str, revision: str, names: list[str]) -> None:
    """Bring files of a model into the local cache; raises one of `UNREACHABLE` if the Hub does not answer."""
    for name in names:
        huggingface_hub.hf_hub_download(model, name, revision=revision)


def ask(url: str) -> None:
    """Raise one of `UNREACHABLE` if the Hub does not answer within seconds; any response counts as an answer.

    The request has no extra headers: building those that huggingface_hub adds may take a request of its own.
    """
    huggingface_hub.get_session().head(url, timeout=PROBE_SECONDS)


def answers() -> bool:
    """Return whether the Hub can be reached."""
    try:
        ask(huggingface_hub.hf_hub_url(REPOSITORY, "README.md", repo_type="dataset"))
    except UNREACHABLE:
        return False
    return True


@contextmanager
def asked_once() -> Iterator[None]:
    """Use only the local cache inside the block, as with HF_HUB_OFFLINE=1, if the Hub does not answer now.

    Otherwise each file of each model would wait for its own timeout. huggingface_hub reads the environment variable
    only at import; after that it checks this constant at each request and has no other switch. So the constant is set
    here and restored when the block ends, also after an error.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
