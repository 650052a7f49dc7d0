"""Files of a checkpoint: names, sizes and locations."""

from pathlib import Path
from typing import Any

from lpcompress import hub
from lpcompress.checkpoints.quantizer import QUANT_METHOD
from lpcompress.errors import CheckpointError, MissingCheckpointError

CONFIG = "config.json"
REPORT_FILE = "lpcompress.json"
RECORD_FILE = "finetuning.json"
CARD_FILE = "README.md"
STUB = "modeling_lpcompress"  # module of the code file that `trust_remote_code=True` imports
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the first pattern that matches is used


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
        raise CheckpointError(f"{path} must hold weights ({' or '.join(WEIGHTS)}). It has none.")


def directory_of(model: str) -> Path | None:
    """Return the directory of a loaded model's files: its own, or its snapshot in the Hub's cache."""
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    config = hub.cached(model, CONFIG)
    return config and config.parent


def weight_files(directory: Path) -> list[Path]:
    """Return the weight files of a checkpoint."""
    return next((files for pattern in WEIGHTS if (files := sorted(directory.glob(pattern)))), [])


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
