"""The files of a checkpoint: their names, sizes and places."""

from pathlib import Path
from typing import Any

import huggingface_hub

from lpcompress.checkpoints.quantizer import QUANT_METHOD

CONFIG = "config.json"
REPORT_FILE = "lpcompress.json"
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the first that is there counts


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
