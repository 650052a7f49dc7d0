"""Version of the package, and of the packages that its results depend on."""

import platform
from importlib.metadata import version

__version__ = "0.1.0"
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "evaluate", "scikit-learn", "scipy", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of lpcompress, Python and the packages that results may depend on."""
    return {"lpcompress": __version__, "python": platform.python_version()} | {name: version(name) for name in PACKAGES}
