"""Telling transformers about the format, without importing transformers.

If its table of quantizers is loaded, the format is entered at once. Else a finder waits for that one module
to be imported, enters the format right after, and takes itself off.
"""

import importlib.machinery
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

TABLE = "transformers.quantizers.auto"
PLUGIN = "lpcompress.checkpoints.quantizer"  # its classes enter themselves into the table


class AfterImport(MetaPathFinder):
    """Finds `TABLE` as Python would, and registers the format once it has been executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return None for every module but `TABLE`."""
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
    """Make `from_pretrained` understand the format, now or as soon as transformers is imported."""
    if TABLE in sys.modules:
        importlib.import_module(PLUGIN)
    elif not any(isinstance(finder, AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterImport())
