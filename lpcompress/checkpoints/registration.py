"""Register the format with transformers, without importing transformers.

If transformers' table of quantizers is already imported, the format is registered at once. Otherwise an import hook
registers it right after that module is imported, and then removes itself.
"""

import importlib.machinery
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

TABLE = "transformers.quantizers.auto"
PLUGIN = "lpcompress.checkpoints.quantizer"  # its classes register themselves in the table when it is imported


class AfterImport(MetaPathFinder):
    """Import hook that finds `TABLE` as Python would, and registers the format once that module is executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of `TABLE`, with a loader that registers the format; None for every other module."""
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == TABLE else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            importlib.import_module(PLUGIN)
            if self in sys.meta_path:
                sys.meta_path.remove(self)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Register the format with transformers, now or as soon as transformers is imported."""
    if TABLE in sys.modules:
        importlib.import_module(PLUGIN)
    elif not any(isinstance(finder, AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterImport())
