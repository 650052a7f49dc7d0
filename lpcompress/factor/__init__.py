"""The mathematics: tensors in, tensors out."""

from lpcompress.factor.factorization import Clustered, Factorization, LowRank, SparseCoded
from lpcompress.factor.methods import METHODS, factorize

__all__ = ["METHODS", "Clustered", "Factorization", "LowRank", "SparseCoded", "factorize"]
