"""Drop-in modules that hold a factorization instead of a matrix."""

from lpcompress.nn.clustered import ClusteredEmbedding
from lpcompress.nn.embedding import CompressedEmbedding, FactoredEmbedding
from lpcompress.nn.linear import FactoredLinear, TiedHead
from lpcompress.nn.sketch import (
    SketchedConv1d,
    SketchedConv2d,
    SketchedLayer,
    SketchedLinear,
    sketch_error,
    sketched_like,
)
from lpcompress.nn.sparse import SparseCodedEmbedding
from lpcompress.nn.spec import build, from_factorization, is_compressed_module, spec_of

__all__ = [
    "ClusteredEmbedding",
    "CompressedEmbedding",
    "FactoredEmbedding",
    "FactoredLinear",
    "SketchedConv1d",
    "SketchedConv2d",
    "SketchedLayer",
    "SketchedLinear",
    "SparseCodedEmbedding",
    "TiedHead",
    "build",
    "from_factorization",
    "is_compressed_module",
    "sketch_error",
    "sketched_like",
    "spec_of",
]
