"""Fitting a matrix where its products with real inputs count, not its entries."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lpcompress.errors import LpCompressError
from lpcompress.factor.factorization import Clustered, Factorization, LowRank

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

    def undo(self, fitted: Factorization) -> Factorization:
        """Return the factorization of A L^-1, given that of A: only its basis changes.

        Raises
        ------
        LpCompressError
            If it has no basis.
        """
        match fitted:
            case LowRank(right=right):
                return replace(fitted, right=self._back(right))
            case Clustered(bases=bases):
                return replace(fitted, bases=self._back(bases))
        raise LpCompressError(f"a {type(fitted).__name__} cannot be fitted to calibrated inputs.")

    def _back(self, rows: Tensor) -> Tensor:
        return (rows.double() @ self.inverse).to(rows.dtype)
