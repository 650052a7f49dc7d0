"""Copy what lies beside a checkpoint's weights: tokenizer, pooling, image processor, chat templates, licence."""

import filecmp
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from lpcompress import hub
from lpcompress.checkpoints.files import CARD_FILE, INDEX, STUB, WEIGHTS, directory_of
from lpcompress.filenames import CONFIG, RECORD_FILE, REPORT_FILE

LARGEST = 100_000_000  # bytes of a file, or of all files in a folder
SHOWN = 8  # names for each reason in the warning
MODULE = "[0-9]*_*"  # folder of a module of sentence-transformers, such as 1_Pooling; weights in it belong to it

# Patterns of names in lower case, and why what matches is not copied. The first match counts. Nobody misses what has no
# reason: it is written anew, or is of no use to a model. Everything else that is left out is named.
HIDDEN = ((".*", "__pycache__", "*.pyc"), "")
WEIGHT_FILES = (
    """*.safetensors *.bin *.pt *.pth *.ckpt *.ckpt.* *.h5 *.keras *.msgpack *.onnx *.onnx_data *.onnx.data *.gguf
    *.ggml *.ot *.pb *.tflite *.mlmodel *.nemo *.npz *.engine *.index.json variables.data-*""".split(),
    "weights",
)
TRAINING = "state of a training run"
NOT_COPIED = (
    HIDDEN,
    ((CONFIG, CARD_FILE.lower(), REPORT_FILE, RECORD_FILE, f"{STUB}.py"), ""),
    ((*WEIGHTS, *WEIGHTS.values(), *(f"{name}{INDEX}" for name in WEIGHTS)), ""),
    (("adapter_*",), "an adapter, which is not part of the model"),
    (("training_args.bin", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*.pth", "events.out.*"), TRAINING),
    (("checkpoint-*", "runs", "wandb", "*.training"), TRAINING),
    (("onnx", "openvino", "tf", "flax", "coreml", "saved_model"), "weights in another format"),
    WEIGHT_FILES,
)


def copy(model: str, target: Path) -> dict[str, str]:
    """Copy the small files of a checkpoint that are not its weights; say what is left out in one warning.

    Files are copied byte for byte and never replace one that is in `target`. Links are followed to files, not to
    folders. A folder that holds weights is another model and is left out, unless it is a module of
    sentence-transformers.

    Parameters
    ----------
    model : str
        Local directory or Hub id. The small files of a Hub id are downloaded if the Hub answers.
    target : Path
        Directory of the new checkpoint.

    Returns
    -------
    dict
        Name -> why it was left out.

    Examples
    --------
    >>> import tempfile
    >>> source, target = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    >>> for name in ("config.json", "model.safetensors", "tf_model.h5", "1_Pooling/config.json"):
    ...     (source / name).parent.mkdir(exist_ok=True)
    ...     _ = (source / name).write_text("{}")
    >>> with warnings.catch_warnings(action="ignore"):
    ...     copy(str(source), target)
    {'tf_model.h5': 'weights'}
    >>> [path.name for path in target.iterdir()]
    ['1_Pooling']
    """
    source = directory_of(model)
    if source is None:
        return {}
    remote = {} if Path(model).expanduser().is_dir() else _download(model, source)
    local, unreadable = _listing(source)
    chosen, left_out = select(remote | local)
    left_out |= unreadable
    for name in chosen:
        if name in local and not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
    if left_out:
        warnings.warn(f"{model}: not copied: {_sentence(left_out)}.", stacklevel=3)
    return left_out


def drop_missing_code(directory: Path) -> None:
    """Remove from the `auto_map` of `config.json` the classes whose code file is not in the directory.

    With them, `trust_remote_code=True` would look for a file that is not there. Code in a repository of the Hub
    (`repository--module.Class`) stays.
    """
    config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    named = config.get("auto_map")
    if not isinstance(named, dict):
        return
    kept = {auto: place for auto, place in named.items() if _is_there(str(place), directory)}
    if kept != named:
        config = {key: value for key, value in config.items() if key != "auto_map"} | (
            {"auto_map": kept} if kept else {}
        )
        (directory / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _is_there(place: str, directory: Path) -> bool:
    return "--" in place or (directory / f"{place.split('.')[0]}.py").is_file()


def same(copied: Path, original: Path) -> bool:
    """Return whether a file, or every file in a folder, is equal to the one of the same name in the original."""
    if copied.is_dir():
        return all(same(each, original / each.name) for each in copied.iterdir())
    return original.is_file() and filecmp.cmp(copied, original, shallow=False)


def select(files: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """Return the files to copy, and the reason for each file or folder that is left out and may be missed.

    Parameters
    ----------
    files : dict
        Path relative to the checkpoint, with forward slashes -> bytes.
    """
    entries: dict[str, list[str]] = {}  # what stands at the top -> its files
    for name in sorted(files):
        entries.setdefault(name.split("/")[0], []).append(name)
    chosen, left_out = [], {}
    for entry, names in entries.items():
        folder = names != [entry]
        names = [name for name in names if not any(_matches(part, HIDDEN[0]) for part in name.split("/"))]
        reason = _reason(entry, folder, names)
        if reason is None and sum(files[name] for name in names) > LARGEST:
            reason = f"larger than {LARGEST // 1_000_000} MB"
        if reason is None:
            chosen += names
        elif reason:
            left_out[f"{entry}/" if folder else entry] = reason
    return chosen, left_out


def _reason(entry: str, folder: bool, names: list[str]) -> str | None:
    """Return why a file or folder at the top is not copied whatever its size; None if it is."""
    if folder and _matches(entry, (MODULE,)):
        return None
    reason = next((reason for patterns, reason in NOT_COPIED if _matches(entry, patterns)), None)
    inside = folder and any(_matches(name.split("/")[-1], WEIGHT_FILES[0]) for name in names)
    return "a folder with weights of its own" if reason is None and inside else reason


def _sentence(left_out: dict[str, str]) -> str:
    """Return the names that are left out, by reason."""
    groups: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        groups.setdefault(reason, []).append(name)
    more = {reason: f" and {len(names) - SHOWN} more" * (len(names) > SHOWN) for reason, names in groups.items()}
    return "; ".join(f"{', '.join(names[:SHOWN])}{more[reason]} ({reason})" for reason, names in groups.items())


def _matches(name: str, patterns: "tuple[str, ...] | list[str]") -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in patterns)


def _listing(directory: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Return the size of each file of a directory, and why others cannot be copied; hidden ones are left out."""
    files, unreadable = {}, {}
    for path in _walk(directory):
        name = path.relative_to(directory).as_posix()
        if path.is_dir():
            unreadable[f"{name}/"] = "a link to a folder"
        elif not path.is_file():
            unreadable[name] = "a broken link" if path.is_symlink() else "not a file"
        elif not os.access(path, os.R_OK):
            unreadable[name] = "you may not read it"
        else:
            files[name] = path.stat().st_size
    return files, unreadable


def _walk(directory: Path) -> Iterator[Path]:
    """Yield everything below a directory except hidden entries and the folders that it enters."""
    for path in sorted(directory.iterdir()):
        if _matches(path.name, HIDDEN[0]):
            continue
        if path.is_dir() and not path.is_symlink() and os.access(path, os.R_OK | os.X_OK):
            yield from _walk(path)
        else:
            yield path


def _download(model: str, snapshot: Path) -> dict[str, int]:
    """Bring the small files of a Hub id into its snapshot; return the names and sizes of all its files."""
    try:
        files = hub.listing(model, snapshot.name)
        wanted = [
            *select(files)[0],
            *(name for name in files if name == CARD_FILE),
        ]  # the new card inherits its licence
        hub.download(model, snapshot.name, [name for name in wanted if not (snapshot / name).exists()])
    except hub.UNREACHABLE as error:
        why = f"The Hub cannot be reached ({type(error).__name__})."
        warnings.warn(f"{model}: only small files in the local cache are copied. {why}", stacklevel=4)
        return {}
    return files
