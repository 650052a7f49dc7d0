"""Write checkpoints atomically: complete, or not at all."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from lpcompress.atomic import atomic_directory, entries, refuse_unwritable_directory, remove_leftovers
from lpcompress.checkpoints import companions, verification
from lpcompress.checkpoints.contents import foreign, has_weights
from lpcompress.checkpoints.files import STUB, directory_of
from lpcompress.checkpoints.layout import lay_out
from lpcompress.checkpoints.tokenizers import has_vocabulary
from lpcompress.checkpoints.verification import Probe, Verification
from lpcompress.errors import CheckpointError
from lpcompress.filenames import CONFIG
from lpcompress.presentation import short_list
from lpcompress.progress import Progress, silent
from lpcompress.surgery.offloading import quiet_offloading


def refuse_existing(out: str | Path, overwrite: bool = False, sources: Sequence[str | Path] = ()) -> None:
    """Raise CheckpointError if `save` cannot write to `out`; call this before the long computation.

    What killed runs left in or beside `out` is removed first. An empty directory is accepted. With `overwrite`, an
    existing checkpoint is accepted too, but nothing else.

    Parameters
    ----------
    out : str or Path
    overwrite : bool, default=False
    sources : sequence of str or Path, optional
        The models (directories or Hub ids) that the result is made from. Their directories are never replaced.
    """
    out = Path(out).resolve()
    try:
        remove_leftovers(out, last=CONFIG)
        _refuse_occupied(out, overwrite, sources)
        refuse_unwritable_directory(out)
    except BlockingIOError as error:
        raise CheckpointError(f"{out} is being written to by another run. Choose another directory.") from error
    except OSError as error:
        raise CheckpointError(f"{out} cannot be written: {error.strerror}. Choose another directory.") from error


def _refuse_occupied(out: Path, overwrite: bool, sources: Sequence[str | Path]) -> None:
    """Raise CheckpointError if something at `out` must be kept; OSError if that cannot be found out."""
    if not out.exists() or (out.is_dir() and not entries(out)):
        return
    if not overwrite:
        raise CheckpointError(f"{out} exists. Choose another directory, or pass --overwrite to replace it.")
    missing = CONFIG if not (out / CONFIG).is_file() else "weights" if not has_weights(out) else None
    if missing:
        raise CheckpointError(f"{out} is not a checkpoint (no {missing}), so --overwrite does not replace it.")
    origins = {source: found for source in sources if (found := directory_of(str(source)))}
    others = [
        name for name in foreign(out) if not any(companions.same(out / name, at / name) for at in origins.values())
    ]
    if others:
        raise CheckpointError(
            f"{out} must hold nothing but a checkpoint to be replaced. It also holds {short_list(others)}. Move that"
            " elsewhere, or choose another directory."
        )
    for source, directory in origins.items():
        _refuse_source(out, source, directory.resolve())


def _refuse_source(out: Path, source: str | Path, directory: Path) -> None:
    """Raise CheckpointError if the directory of a source model is `out`, is inside it, or has it inside."""
    relations = {
        "is": out == directory,
        "contains": out in directory.parents,
        "lies inside": directory in out.parents,
    }
    for relation, holds in relations.items():
        if holds:
            raise CheckpointError(
                f"{out} {relation} the directory of {source}, which is read from, so --overwrite does not replace it."
                " Choose another directory."
            )


@contextmanager
def new_checkpoint(out: str | Path, overwrite: bool = False, sources: Sequence[str | Path] = ()) -> Iterator[Path]:
    """Yield a temporary directory whose content becomes the checkpoint `out` when the block succeeds.

    While another process writes to `out`, this waits. What a killed one left there is removed first.

    Parameters
    ----------
    out : str or Path
    overwrite : bool, default=False
        Replace the checkpoint in `out`, which is removed only when the new one is complete. A directory that holds
        anything besides a checkpoint (see `contents.FILES`) is refused.
    sources : sequence of str or Path, optional
        See `refuse_existing`.

    Yields
    ------
    Path
        The directory to write to.

    Raises
    ------
    CheckpointError
        If `out` exists, or cannot be written.
    """
    out = Path(out).resolve()
    try:
        with atomic_directory(out, last=CONFIG) as directory:
            _refuse_occupied(out, overwrite, sources)
            yield directory
            _refuse_occupied(out, overwrite, sources)  # somebody may have put something there meanwhile
    except (OSError, SafetensorError) as error:  # safetensors raises its own error on a full disk
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{out} cannot be written: {reason}. Nothing was left behind.") from error


@dataclass(frozen=True)
class Written:
    """What `write` did besides writing the model.

    Attributes
    ----------
    left_out : dict of str to str
        File or folder of the source -> why it was not copied.
    verification : Verification or None
        None if the files were not checked.
    """

    left_out: dict[str, str]
    verification: Verification | None


def write(
    directory: Path,
    model: Any,
    tokenizer: Any,
    max_shard_size: int | str | None = None,
    stub: bool = False,
    source: str | None = None,
    probe: Probe | None = None,
    progress: Progress = silent,
) -> Written:
    """Write the files of a model and of its tokenizer into a directory.

    Parameters
    ----------
    directory : Path
        The directory from `new_checkpoint`.
    model : PreTrainedModel
    tokenizer : tokenizer or None
    max_shard_size : int or str, optional
        Largest size of a weight file, in bytes or as text such as "2GB"; see `save_pretrained`.
    stub : bool, default=False
        Add a code file that makes `trust_remote_code=True` import lpcompress.
    source : str, optional
        Directory or Hub id that the model came from. Its small files are copied as they are, those of the tokenizer
        too: other readers may read a tokenizer.json differently when it is written anew. Without it, or if it has no
        vocabulary, the tokenizer is written from memory.
    probe : Probe, optional
        Inputs for the model, found before it was changed. With them the files are checked before they are put in place:
        see `verification.verify`.
    progress : Progress
        Told how far the check is.

    Returns
    -------
    Written

    Warns
    -----
    UserWarning
        If something of `source` is left out.

    Raises
    ------
    CheckpointError
        If the check fails.
    """
    sharding = {} if max_shard_size is None else {"max_shard_size": max_shard_size}
    with quiet_offloading():
        model.save_pretrained(directory, **sharding)
    for file in list(directory.glob("*.safetensors")):
        lay_out(file)
    left_out = write_companions(directory, tokenizer, source)
    if stub:
        write_stub(model, directory)
    companions.drop_missing_code(directory)
    if probe is None:
        return Written(left_out, None)
    return Written(left_out, verification.verify(directory, model, probe, progress.about("checking the files")))


def write_companions(directory: Path, tokenizer: Any, source: str | None) -> dict[str, str]:
    """Write what lies beside the weights; return what was left out. The parameters are those of `write`."""
    left_out = companions.copy(source, directory) if source else {}
    if tokenizer is not None and not (source and has_vocabulary(directory, tokenizer)):
        _save_tokenizer(tokenizer, directory)
    return left_out


def _save_tokenizer(tokenizer: Any, directory: Path) -> None:
    try:
        tokenizer.save_pretrained(directory)
    except Exception as error:
        if type(error) is Exception:  # what the tokenizers library raises when it cannot write
            raise OSError(str(error)) from error
        raise


def save(
    model: Any, tokenizer: Any, out: str | Path, overwrite: bool = False, source: str | None = None, **options: Any
) -> None:
    """Write a checkpoint atomically: all of it, or nothing.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : tokenizer or None
    out : str or Path
        Directory of the checkpoint; missing parents are created.
    overwrite : bool, default=False
        See `new_checkpoint`.
    source : str, optional
        As for `write`. Its directory is never replaced.
    **options
        `max_shard_size`, `stub` and `probe`, as for `write`.

    Raises
    ------
    CheckpointError
        If `out` exists, or cannot be written.

    Examples
    --------
    >>> import tempfile, transformers
    >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 12}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes))
    >>> out = Path(tempfile.mkdtemp()) / "model"
    >>> save(model, None, out)
    >>> sorted(file.name for file in out.iterdir())
    ['config.json', 'model.safetensors']
    """
    with new_checkpoint(out, overwrite, [source] if source else ()) as directory:
        write(directory, model, tokenizer, source=source, **options)


def write_stub(model: Any, directory: Path) -> None:
    """Add a code file that imports lpcompress when the checkpoint is loaded with `trust_remote_code=True`."""
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
    """Return the names of the Auto classes that load the class of `model`."""
    from transformers.models.auto import modeling_auto

    found = []
    for name, auto in vars(modeling_auto).items():
        mapping = getattr(auto, "_model_mapping", None) if name.startswith("AutoModel") else None
        chosen = mapping[type(model.config)] if mapping and type(model.config) in mapping else ()
        if type(model) in (chosen if isinstance(chosen, tuple) else (chosen,)):
            found.append(name)
    return found
