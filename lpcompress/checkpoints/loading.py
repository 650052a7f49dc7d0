"""Loading a checkpoint from a directory or the Hub."""

import logging
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from lpcompress.checkpoints.files import CONFIG, WEIGHTS, directory_of, weight_files
from lpcompress.errors import CheckpointError, LpCompressError, MissingCheckpointError
from lpcompress.hub import PROBE_SECONDS, UNREACHABLE, ask
from lpcompress.surgery.finding import input_embedding
from lpcompress.surgery.offloading import ON_DISK, ScratchDirectory, misshapen

LOAD_ERRORS = (
    *(OSError, ValueError, RuntimeError, ImportError, KeyError),
    *(SafetensorError, StrictDataclassError, pickle.UnpicklingError),
)
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model")  # files without which there is no tokenizer


def load(model: str, dtype: torch.dtype | None = None, on_disk: bool = False) -> tuple[Any, Any]:
    """Load a model and its tokenizer.

    Parameters
    ----------
    model : str
        Hub id or local directory; dense or compressed. Remote code is never run.
    dtype : torch.dtype, optional
        By default that of the checkpoint.
    on_disk : bool, default=False
        Leave the tensors in their files: each is read when `compress` or `save` needs it. A checkpoint that lacks
        weights is loaded into memory all the same.

    Returns
    -------
    tuple of PreTrainedModel and tokenizer
        The model in the class that its config names; None where the checkpoint has no tokenizer.
    """
    path = Path(model).expanduser()
    model = str(path if path.is_dir() else model)
    source: dict[str, Any] = find(model)
    scratch = ScratchDirectory() if on_disk else None  # for pickles, whose tensors cannot be read one by one
    placement = {"device_map": ON_DISK, "offload_folder": scratch.path} if scratch else {}
    with readable(model), quiet_offloading():
        config = AutoConfig.from_pretrained(model, trust_remote_code=False, **source)
        cls = class_of(config, model)
        loaded, info = cls.from_pretrained(
            model, config=config, dtype=dtype or "auto", output_loading_info=True, **placement, **source
        )
    missing = sorted(info["missing_keys"])
    if on_disk and (missing or misshapen(loaded)):  # what is random is in no file, what does not fit is refused there
        return load(model, dtype)
    loaded.scratch = scratch  # lasts as long as the model
    refuse_random(model, loaded, missing)
    return loaded, load_tokenizer(model, source)


def load_tokenizer(model: str, source: dict[str, Any]) -> Any:
    """Return the tokenizer of a checkpoint, None if it has none that can be read."""
    directory = directory_of(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, **source)
    except (*LOAD_ERRORS, TypeError, AttributeError) as error:  # transformers raises any of these if files are absent
        if directory and any(file for pattern in TOKENIZERS for file in directory.glob(pattern)):
            reason = f"{type(error).__name__}: {first_line(error)}"
            warnings.warn(f"{model}: the tokenizer cannot be read, and is left out. {reason}", stacklevel=1)
        return None
    # without a vocabulary transformers makes up a tokenizer of special tokens
    found = directory and any((directory / name).exists() for name in tokenizer.vocab_files_names.values())
    return tokenizer if found else None


def tokenizer_beside(model: Any) -> Any:
    """Return the tokenizer of the local or cached checkpoint that a loaded model came from, None if there is none."""
    origin = getattr(model.config, "_name_or_path", "")
    return load_tokenizer(origin, {"local_files_only": True}) if origin else None


def find(model: str) -> dict[str, Any]:
    """Raise unless `model` can be read; return what `from_pretrained` must be told.

    A Hub that does not answer is given up on within seconds, unless the model is in the local cache.
    """
    path = Path(model).expanduser()
    if path.exists():
        refuse_unreadable(path)
        return {"local_files_only": True}
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model or model.endswith("/"):
        raise MissingCheckpointError(
            f"{model} must be a directory with a checkpoint, or a Hub id. There is no such directory."
        )
    try:
        url = huggingface_hub.hf_hub_url(model, CONFIG)
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
        raise CheckpointError(f"{model} on the Hub must hold {CONFIG}, which it lacks.") from None
    except UNREACHABLE as error:
        return from_cache(model, error)


def from_cache(model: str, error: Exception) -> dict[str, Any]:
    """Fall back to the local cache after `error`, or raise."""
    if isinstance(huggingface_hub.try_to_load_from_cache(model, CONFIG), str):
        return {"local_files_only": True}
    local = Path(model).parent != Path() and Path(model).parent.is_dir()  # it looks like one of that directory's
    raise (MissingCheckpointError if local else CheckpointError)(
        f"{model} is no local directory, is not in the local cache, and the Hub cannot be reached"
        f" ({type(error).__name__}). Check the network and HF_HUB_OFFLINE, or give a local directory."
    ) from None


def refuse_unreadable(path: Path) -> None:
    """Raise unless `path` is a directory with a config and weights."""
    if not path.is_dir():
        raise CheckpointError(f"{path} must be a directory with a checkpoint. It is a file.")
    if not (path / CONFIG).is_file():
        hint = " It holds a PEFT adapter: merge it into its base model first." * (path / "adapter_config.json").exists()
        raise CheckpointError(f"{path} must hold {CONFIG}, which it lacks.{hint}")
    if not weight_files(path):
        raise CheckpointError(f"{path} must hold weights ({' or '.join(WEIGHTS)}). It has none.")


@contextmanager
def quiet_offloading() -> Iterator[None]:
    """Keep back what accelerate and transformers say of tensors that stay on the disk: here they are meant to."""
    logger = logging.getLogger("accelerate.big_modeling")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attempting to save a model with offloaded modules")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def readable(model: str) -> Iterator[None]:
    """Turn what transformers raises on a bad checkpoint into one sentence."""
    try:
        yield
    except LpCompressError:
        raise
    except LOAD_ERRORS as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        if "ignore_mismatched_sizes" in reason:  # to advise that would be to advise random weights
            reason = f"Its weights are of other sizes than its {CONFIG} says."
        raise CheckpointError(f"{model} cannot be loaded. {reason}") from error


def first_line(error: Exception) -> str:
    """Return the first line of a message that is not empty, and the next if that only announces it."""
    first, *rest = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return " ".join([first, *rest[:1]]) if first.endswith(":") else first


def class_of(config: Any, model: str) -> Any:
    """Return the model class that `config` names; `AutoModel` if it names none."""
    names = config.architectures or []
    if not names:
        return AutoModel
    cls = getattr(transformers, str(names[0]), None)
    if not (isinstance(cls, type) and issubclass(cls, PreTrainedModel)):
        raise CheckpointError(
            f"{model}: 'architectures' in {CONFIG} must name a class of transformers. Got {names[0]!r}; code that comes"
            " with a checkpoint is not run."
        )
    return cls


def refuse_random(model: str, loaded: Any, missing: list[str]) -> None:
    """Raise if the word embedding is among the `missing` weights; warn of others."""
    embedding = input_embedding(loaded)
    names = [f"{name}." for name, module in loaded.named_modules() if module is embedding]
    lost = [key for key in missing if key.startswith(tuple(names))]
    if lost:
        raise CheckpointError(
            f"{model} must hold the word embedding of a {type(loaded).__name__}. It lacks {', '.join(lost)}: the"
            " weights belong to another architecture, or the download is incomplete."
        )
    if missing:
        warnings.warn(f"{model} lacks {', '.join(missing)}; these weights are random.", stacklevel=3)
