"""Reading a checkpoint from disk or the Hub, and writing one so that it is either complete or not there."""

import glob
import json
import logging
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from lpcompress.errors import CheckpointError, LpCompressError, MissingCheckpointError
from lpcompress.hf_quantizer import QUANT_METHOD
from lpcompress.offloading import ON_DISK, ScratchDirectory, misshapen
from lpcompress.surgery import input_embedding

CONFIG = "config.json"
REPORT_FILE = "lpcompress.json"
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the first that is there counts
STUB = "modeling_lpcompress"
PROBE_SECONDS = 2.5
# OSError, and the base of the errors of whichever HTTP client the Hub's library uses
UNREACHABLE: tuple[Any, ...] = HfHubHTTPError.__bases__
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


def ask(url: str) -> None:
    """Raise one of `UNREACHABLE` if the Hub does not answer within seconds; any response is an answer.

    The request is bare, for the headers that the Hub's library adds may cost another request first.
    """
    huggingface_hub.get_session().head(url, timeout=PROBE_SECONDS)


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


def is_compressed(config: Any) -> bool:
    """Tell whether a model config is that of a compressed checkpoint."""
    settings = getattr(config, "quantization_config", None)
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    return method == QUANT_METHOD


def weight_files(directory: Path) -> list[Path]:
    """Return the files that hold the weights of a checkpoint."""
    return next((files for pattern in WEIGHTS if (files := sorted(directory.glob(pattern)))), [])


def file_bytes(directory: str | Path) -> int:
    """Return the bytes of the weight files in a checkpoint directory."""
    return sum(file.stat().st_size for file in weight_files(Path(directory)))


def largest_shard(model: str) -> int | None:
    """Return the bytes of the largest weight file of a model that was loaded, None if its files are not found."""
    directory = directory_of(model)
    return max((file.stat().st_size for file in weight_files(directory)), default=None) if directory else None


def directory_of(model: str) -> Path | None:
    """Return where the files of a model that was loaded lie: its directory, or its snapshot in the Hub's cache."""
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    cached = huggingface_hub.try_to_load_from_cache(model, CONFIG)
    return Path(cached).parent if isinstance(cached, str) else None


def refuse_existing(out: str | Path, overwrite: bool = False) -> None:
    """Raise if `save` could not write to `out`; meant to be called before the long work.

    What earlier, killed runs left behind beside `out` is tidied up first.
    An empty directory may be written to. With `overwrite` a checkpoint may, but nothing else.
    """
    out = Path(out).resolve()
    parent = next(p for p in (*out.parents, out) if p.exists())  # the root has no parents
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise CheckpointError(f"{out} cannot be written: {parent} is not a directory you may write to.")
    remove_leftovers(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise CheckpointError(f"{out} exists. Choose another directory, or pass --overwrite to replace it.")
    if not (out / CONFIG).is_file():
        raise CheckpointError(f"{out} is not a checkpoint (no {CONFIG}), so --overwrite does not replace it.")


def save(
    model: Any,
    tokenizer: Any,
    out: str | Path,
    extra_files: dict[str, str] | Callable[[Path], dict[str, str]] | None = None,
    overwrite: bool = False,
    max_shard_size: int | str | None = None,
    stub: bool = False,
) -> None:
    """Write a checkpoint: all of it, or nothing.

    Everything is written to a hidden sibling directory, which is renamed when it is complete. What an
    earlier, killed run left behind is removed.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : tokenizer or None
    out : str or Path
    extra_files : dict or callable, optional
        File name -> text of what is written beside the weights, or the function that returns it, given the
        directory once the weights are in it.
    overwrite : bool, default=False
        Replace the checkpoint in `out`; it is removed only when the new one is complete.
    max_shard_size : int or str, optional
        As in `save_pretrained`.
    stub : bool, default=False
        Add a file of code with which `trust_remote_code=True` imports lpcompress by itself.
    """
    out = Path(out).resolve()
    refuse_existing(out, overwrite)
    sharding = {} if max_shard_size is None else {"max_shard_size": max_shard_size}
    temporary = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        with quiet_offloading():
            model.save_pretrained(temporary, **sharding)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
        if stub:
            write_stub(model, temporary)
        files = extra_files(temporary) if callable(extra_files) else extra_files or {}
        for name, text in files.items():
            (temporary / name).write_text(text, encoding="utf-8")
        mode = temporary.stat().st_mode & 0o666  # what the umask grants; the writer of safetensors grants less
        for file in [*temporary.rglob("*"), temporary]:
            if file.is_file():
                file.chmod(mode)
            flush(file)
        put_in_place(temporary, out)
    except (OSError, SafetensorError) as error:  # the latter is how the writer reports a full disk
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{out} cannot be written: {reason}. Nothing was left behind.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(temporary: Path, out: Path) -> None:
    """Rename the complete directory to `out`, and only then remove what was there."""
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    if out.exists():
        out.rename(old)
    try:
        temporary.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise
    flush(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(out: Path) -> None:
    """Remove the hidden siblings of killed runs; give back an old checkpoint that was never replaced."""
    for sibling in out.parent.glob(f".{glob.escape(out.name)}.*-*"):
        match = re.fullmatch(r"\.(tmp|old)-(\d+)", sibling.name.removeprefix(f".{out.name}"))
        if match is None or is_running(int(match[2])):
            continue
        if match[1] == "old" and not out.exists():
            sibling.rename(out)
        else:
            shutil.rmtree(sibling, ignore_errors=True)


def is_running(process: int) -> bool:
    """Tell whether another process of this id lives."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def flush(path: Path) -> None:
    """Force a file's or directory's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_stub(model: Any, directory: Path) -> None:
    """Add code that imports lpcompress, for users who load with `trust_remote_code=True`."""
    cls = type(model).__name__
    config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    config["auto_map"] = {name: f"{STUB}.{cls}" for name in auto_classes(model)}
    (directory / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (directory / f"{STUB}.py").write_text(
        "import lpcompress  # registers the loader\nimport transformers\n\n\n"
        f"class {cls}(transformers.{cls}):\n    pass\n",
        encoding="utf-8",
    )


def auto_classes(model: Any) -> list[str]:
    """Return the names of the Auto classes that would choose the class of `model`."""
    from transformers.models.auto import modeling_auto

    found = []
    for name, auto in vars(modeling_auto).items():
        mapping = getattr(auto, "_model_mapping", None) if name.startswith("AutoModel") else None
        chosen = mapping[type(model.config)] if mapping and type(model.config) in mapping else ()
        if type(model) in (chosen if isinstance(chosen, tuple) else (chosen,)):
            found.append(name)
    return found


def densify(source: str | Path, out: str | Path, overwrite: bool = False) -> None:
    """Write a plain checkpoint with the layers multiplied out, which loads without lpcompress.

    Parameters
    ----------
    source : str or Path
        A compressed checkpoint.
    out : str or Path
    overwrite : bool, default=False
        See `save`.
    """
    refuse_existing(out, overwrite)
    model, tokenizer = load(str(source))
    if not is_compressed(model.config):
        raise CheckpointError(f"{source} must be a checkpoint that lpcompress compressed. It is dense already.")
    model.dequantize()
    if hasattr(model.config, "auto_map"):
        del model.config.auto_map  # the stub is not copied
    save(model, tokenizer, out, overwrite=overwrite)
