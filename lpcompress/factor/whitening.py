"""Fitting a matrix where its products with real inputs count, not its entries."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from lpcompress.factor.norms import relative_error
from lpcompress.formats.base import Factorization
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.sparse import SparseCoded

Fitted = TypeVar("Fitted", bound=Factorization)
BASES: dict[type[Factorization], str] = {LowRank: "right", Clustered: "bases", SparseCoded: "basis"}
"""Kind of result -> the field that holds its basis vectors."""

DAMPING = 1e-3  # of the mean of the diagonal: directions that the text did not show are not free


@dataclass(frozen=True)
class Whitener:
    """A square root L of a second moment C = E[x x^T] of inputs: ||(W - W') L||_F^2 = E ||(W - W') x||^2.

    Attributes
    ----------
    root, inverse : Tensor of shape (d, d)
        L and its inverse, float64.

    References
    ----------
    Wang et al., "SVD-LLM: Truncation-aware singular value decomposition for large language model compression", ICLR
    2025, section 3.1, for low rank; clustered factors follow in the same way.
    """

    root: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, moment: Tensor) -> "Whitener":
        """Return the Cholesky factor of the damped moment; its symmetric root where that fails."""
        d = moment.shape[0]
        moment = moment.double()
        scale = float(moment.diagonal().mean()) or 1.0
        damped = moment / scale + DAMPING * torch.eye(d, dtype=torch.float64, device=moment.device)
        root, failed = torch.linalg.cholesky_ex(damped)
        if bool(failed):  # rounding made it indefinite
            values, vectors = torch.linalg.eigh(damped)
            root = vectors * values.clamp_min(DAMPING).sqrt() @ vectors.T
        return cls(root, torch.linalg.inv(root))

    def __call__(self, matrix: Tensor) -> Tensor:
        """Return W L."""
        return (matrix.double() @ self.root).to(matrix.dtype)

    def relative_error(self, matrix: Tensor, dense: Tensor) -> float:
        """Return the relative error of the products with the inputs, if `dense` stands in the place of `matrix`."""
        return relative_error(self(matrix), self(dense))

    def undo(self, fitted: Fitted) -> Fitted:
        """Return the factorization of A L^-1, given that of A in a basis: nothing else changes."""
        field = BASES[type(fitted)]
        rows: Tensor = getattr(fitted, field)
        changed: dict[str, Any] = {field: (rows.double() @ self.inverse).to(rows.dtype)}
        return replace(fitted, **changed)
