"""The mathematics of factoring a matrix: tensors in, tensors out."""

from lpcompress.factor.choice import factorize
from lpcompress.formats.base import Factorization
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.sparse import SparseCoded
from lpcompress.methods import METHODS as ROWS
from lpcompress.methods import resolve

METHODS = {name: resolve(row.fit) for name, row in ROWS.items() if row.fit}
"""The fit of each method that needs only a matrix: (matrix, budget, settings, whitener=None) -> Factorization."""

__all__ = ["METHODS", "Clustered", "Factorization", "LowRank", "SparseCoded", "factorize"]
