"""Writing a checkpoint so that it is complete or not there."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from lpcompress.atomic import flush, put_in_place, remove_leftovers
from lpcompress.checkpoints.files import CONFIG, is_compressed
from lpcompress.checkpoints.loading import load, quiet_offloading
from lpcompress.errors import CheckpointError

STUB = "modeling_lpcompress"


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
