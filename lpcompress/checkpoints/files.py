"""Files of a checkpoint: names, sizes and locations."""

import json
from pathlib import Path
from typing import Any

from lpcompress import hub
from lpcompress.checkpoints.indexes import read_index
from lpcompress.errors import CheckpointError, MissingCheckpointError
from lpcompress.filenames import CONFIG
from lpcompress.presentation import short_list

QUANT_METHOD = "lpcompress"  # in `config.json`, and for transformers
CARD_FILE = "README.md"
STUB = "modeling_lpcompress"  # module of the code file that `trust_remote_code=True` imports
INDEX = ".index.json"  # follows the name of the file that its shards replace
WEIGHTS = {  # the first that is there, whole or in shards with an index, is loaded
    "model.safetensors": "model-*-of-*.safetensors",
    "pytorch_model.bin": "pytorch_model-*-of-*.bin",
}


def find(model: str) -> dict[str, Any]:
    """Check that a checkpoint can be read; return the keyword arguments for `from_pretrained`.

    Parameters
    ----------
    model : str
        Local directory or Hub id.

    Returns
    -------
    dict
        `{"local_files_only": True}` for a directory; see `hub.find` for a Hub id.

    Raises
    ------
    MissingCheckpointError
        If there is no such directory, or no such model on the Hub.
    CheckpointError
        If the directory lacks a config or weights; see `hub.find` for a Hub id.
    """
    path = Path(model).expanduser()
    if path.exists():
        refuse_unreadable(path)
        return {"local_files_only": True}
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model or model.endswith("/"):
        raise MissingCheckpointError(
            f"{model} must be a directory with a checkpoint, or a Hub id. There is no such directory."
        )
    return hub.find(model, CONFIG)


def refuse_unreadable(path: Path) -> None:
    """Raise CheckpointError unless `path` is a directory with a config and weights."""
    if not path.is_dir():
        raise CheckpointError(f"{path} must be a directory with a checkpoint. It is a file.")
    if not (path / CONFIG).is_file():
        hint = " It holds a PEFT adapter: merge it into its base model first." * (path / "adapter_config.json").exists()
        raise CheckpointError(f"{path} must hold {CONFIG}, which it lacks.{hint}")
    if not weight_files(path):
        raise CheckpointError(f"{path} must hold weights ({' or '.join(WEIGHTS)}, whole or sharded). It has none.")
    lost = [file.name for file in weight_files(path) if not file.is_file()]
    if lost:
        raise CheckpointError(f"{path} must hold every weight file that its index names. It lacks {short_list(lost)}.")


def directory_of(model: str) -> Path | None:
    """Return the directory of a loaded model's files: its own, or its snapshot in the Hub's cache."""
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    config = hub.cached(model, CONFIG)
    return config and config.parent


def weight_files(directory: Path) -> list[Path]:
    """Return the weight files that `from_pretrained` reads, whether they are there or only named by an index.

    Copies beside them, such as `model.fp16.safetensors` or a pickle of the same weights, are not read.

    Raises
    ------
    CheckpointError
        If an index is damaged.
    """
    named = _setting(directory / CONFIG, "transformers_weights")
    for name in [str(named)] if named else WEIGHTS:
        whole, index = directory / name, directory / f"{name}{INDEX}"
        if name.endswith(INDEX) or (index.is_file() and not whole.is_file()):
            index = whole if name.endswith(INDEX) else index
            return [directory / shard for shard in sorted({*read_index(index).values()})]
        if whole.is_file():
            return [whole]
    return []


def _setting(file: Path, key: str) -> Any:
    """Return a value of a JSON object; None if it, or the object, cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def file_bytes(directory: str | Path) -> int:
    """Return the total bytes of the weight files in a checkpoint directory."""
    return sum(file.stat().st_size for file in weight_files(Path(directory)))


def largest_shard(model: str) -> int | None:
    """Return the bytes of the largest weight file of a loaded model; None if its files are not found."""
    directory = directory_of(model)
    return max((file.stat().st_size for file in weight_files(directory)), default=None) if directory else None


def is_compressed(config: Any) -> bool:
    """Return whether a model config belongs to a compressed checkpoint."""
    settings = getattr(config, "quantization_config", None)
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    return method == QUANT_METHOD
