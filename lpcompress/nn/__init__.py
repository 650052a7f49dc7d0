"""Drop-in modules that hold a factorization instead of a matrix."""

from lpcompress.nn.convolution import ClusteredConvolution, FactoredConvolution, SparseCodedConvolution
from lpcompress.nn.einsum import (
    FROM_HEADS,
    INTO_HEADS,
    BareWeight,
    ClusteredBareWeight,
    CompressedBareWeight,
    FactoredBareWeight,
    SparseCodedBareWeight,
)
from lpcompress.nn.embedding import (
    ClusteredEmbedding,
    CompressedEmbedding,
    FactoredEmbedding,
    SparseCodedEmbedding,
)
from lpcompress.nn.linear import ClusteredLinear, CompressedLinear, FactoredLinear, SparseCodedLinear
from lpcompress.nn.matrix import FactoredMatrix
from lpcompress.nn.spec import build, from_factorization, is_compressed_module, role_of, spec_of
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
]
