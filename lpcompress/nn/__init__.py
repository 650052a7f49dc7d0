"""Drop-in modules that hold a factorization instead of a matrix."""

from lpcompress.formats.module import FactoredMatrix, window_of
from lpcompress.nn.convolution import (
    ClusteredConvolution,
    FactoredConvolution,
    SketchedConv1d,
    SketchedConv2d,
    SparseCodedConvolution,
)
from lpcompress.nn.einsum import (
    FROM_HEADS,
    INTO_HEADS,
    BareWeight,
    ClusteredBareWeight,
    CompressedBareWeight,
    FactoredBareWeight,
    SketchedBareWeight,
    SparseCodedBareWeight,
)
from lpcompress.nn.embedding import ClusteredEmbedding, CompressedEmbedding, FactoredEmbedding, SparseCodedEmbedding
from lpcompress.nn.linear import ClusteredLinear, CompressedLinear, FactoredLinear, SketchedLinear, SparseCodedLinear
from lpcompress.nn.registry import build, from_factorization, is_compressed_module, role_of, spec_of
from lpcompress.nn.tied_head import TiedHead

__all__ = [
    "FROM_HEADS",
    "INTO_HEADS",
    "BareWeight",
    "ClusteredBareWeight",
    "ClusteredConvolution",
    "ClusteredEmbedding",
    "ClusteredLinear",
    "CompressedBareWeight",
    "CompressedEmbedding",
    "CompressedLinear",
    "FactoredBareWeight",
    "FactoredConvolution",
    "FactoredEmbedding",
    "FactoredLinear",
    "FactoredMatrix",
    "SketchedBareWeight",
    "SketchedConv1d",
    "SketchedConv2d",
    "SketchedLinear",
    "SparseCodedBareWeight",
    "SparseCodedConvolution",
    "SparseCodedEmbedding",
    "SparseCodedLinear",
    "TiedHead",
    "build",
    "from_factorization",
    "is_compressed_module",
    "role_of",
    "spec_of",
    "window_of",
]
