"""Compress Hugging Face checkpoints by factoring their layers.

After importing this package, before or after transformers, `from_pretrained` loads compressed checkpoints. The import
is light: torch and transformers are imported when a name that needs them is first used.
"""

import importlib
from typing import Any

from lpcompress.checkpoints.registration import register
from lpcompress.version import __version__

_HOMES = {
    "compress": "lpcompress.compression.whole_model",
    "eval_glue": "lpcompress.evaluation.benchmark",
    "factorize": "lpcompress.factor",
    "finetune": "lpcompress.finetuning.run",
    "load": "lpcompress.checkpoints.loading",
    "LpCompressError": "lpcompress.errors",
    "Plan": "lpcompress.config.plan",
    "Recipe": "lpcompress.config.recipe",
    "Scoring": "lpcompress.config.scoring",
    "sketched_like": "lpcompress.compression.sketch_start",
}
__all__ = [*_HOMES, "__version__", "nn"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name == "nn":
        return importlib.import_module("lpcompress.nn")
    if name not in _HOMES:
        raise AttributeError(f"module 'lpcompress' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register()
