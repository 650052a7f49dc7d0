"""Drop-in modules that store a factorization instead of a matrix.

Most classes, one per pair of form and role (`FactoredEmbedding`, `SparseCodedLinear`, ...), are derived in `registry`
and available here by name.
"""

from typing import Any

from lpcompress.formats.module import FactoredMatrix, window_of
from lpcompress.nn.convolution import CompressedConvolution
from lpcompress.nn.einsum import FROM_HEADS, INTO_HEADS, BareWeight, CompressedBareWeight, accept_stored_names
from lpcompress.nn.embedding import CompressedEmbedding
from lpcompress.nn.linear import CompressedLinear
from lpcompress.nn.pairs import ClusteredLinear, SketchedConv1d, SketchedConv2d, SketchedLinear
from lpcompress.nn.registry import (
    build,
    from_factorization,
    is_compressed_module,
    modules,
    noun_of,
    role_of,
    spec_of,
)
from lpcompress.nn.resident import ResidentMatrix
from lpcompress.nn.scale import Scale, ScaledEmbedding, scale_of
from lpcompress.nn.tied import Tied, TiedEmbedding, TiedHead, can_be_tied, tied_to

__all__ = [
    "FROM_HEADS",
    "INTO_HEADS",
    "BareWeight",
    "ClusteredLinear",
    "CompressedBareWeight",
    "CompressedConvolution",
    "CompressedEmbedding",
    "CompressedLinear",
    "FactoredMatrix",
    "ResidentMatrix",
    "Scale",
    "ScaledEmbedding",
    "SketchedConv1d",
    "SketchedConv2d",
    "SketchedLinear",
    "Tied",
    "TiedEmbedding",
    "TiedHead",
    "accept_stored_names",
    "build",
    "can_be_tied",
    "from_factorization",
    "is_compressed_module",
    "noun_of",
    "role_of",
    "scale_of",
    "spec_of",
    "tied_to",
    "window_of",
]
__all__ += sorted({module.__name__ for module in modules().values()} - set(__all__))


def __getattr__(name: str) -> Any:
    """Return the class of a form in a role by its name (PEP 562)."""
    for module in modules().values():
        if module.__name__ == name:
            return module
    raise AttributeError(f"module 'lpcompress.nn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
