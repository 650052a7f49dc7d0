"""The mathematics: tensors in, tensors out."""

from lpcompress.factor.choice import METHODS, factorize
from lpcompress.formats.base import Factorization
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.sparse import SparseCoded

__all__ = ["METHODS", "Clustered", "Factorization", "LowRank", "SparseCoded", "factorize"]
