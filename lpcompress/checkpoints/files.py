"""The files of a checkpoint: their names, sizes and places."""

from pathlib import Path
from typing import Any

from lpcompress import hub
from lpcompress.checkpoints.quantizer import QUANT_METHOD
from lpcompress.errors import CheckpointError, MissingCheckpointError

CONFIG = "config.json"
REPORT_FILE = "lpcompress.json"
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the first that is there counts


def find(model: str) -> dict[str, Any]:
    """Raise unless a checkpoint can be read; return what `from_pretrained` must be told.

    Parameters
    ----------
    model : str
        Local directory or Hub id.

    Raises
    ------
    MissingCheckpointError
        If there is no such directory, or no such model on the Hub.
    CheckpointError
        If the directory lacks a config or weights, or as `hub.find` says.
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
    """Raise unless `path` is a directory with a config and weights."""
    if not path.is_dir():
        raise CheckpointError(f"{path} must be a directory with a checkpoint. It is a file.")
    if not (path / CONFIG).is_file():
        hint = " It holds a PEFT adapter: merge it into its base model first." * (path / "adapter_config.json").exists()
        raise CheckpointError(f"{path} must hold {CONFIG}, which it lacks.{hint}")
    if not weight_files(path):
        raise CheckpointError(f"{path} must hold weights ({' or '.join(WEIGHTS)}). It has none.")


def directory_of(model: str) -> Path | None:
    """Return where the files of a model that was loaded lie: its directory, or its snapshot in the Hub's cache."""
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    config = hub.cached(model, CONFIG)
    return config and config.parent


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


def is_compressed(config: Any) -> bool:
    """Tell whether a model config is that of a compressed checkpoint."""
    settings = getattr(config, "quantization_config", None)
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    return method == QUANT_METHOD
