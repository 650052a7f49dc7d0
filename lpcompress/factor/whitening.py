"""Activation-aware whitening: fits that minimise the error of products with inputs instead of that of entries."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from lpcompress.errors import UnsuitableError
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.scaling import excess_of, times_power
from lpcompress.formats.base import Factorization
from lpcompress.formats.packing import CHUNK

Fitted = TypeVar("Fitted", bound=Factorization)

DAMPING = 1e-3  # share of its mean that is added to the diagonal: errors in directions absent from the text still count


@dataclass(frozen=True)
class Whitener:
    """A square root L of a second moment C = E[x x^T] of inputs: ||(W - W') L||_F^2 = E ||(W - W') x||^2.

    An embedding has no inputs: x is then a derivative of the output by a row.

    Attributes
    ----------
    root, inverse : Tensor of shape (d, d)
        L and its inverse, float64.

    References
    ----------
    Wang et al., "SVD-LLM: Truncation-aware singular value decomposition for large language model compression", ICLR
    2025, section 3.1, for low rank; clustered factors are treated in the same way.

    Examples
    --------
    >>> from lpcompress.factor.choice import choose
    >>> inputs, weight = torch.randn(100, 8) * torch.logspace(0, -2, 8), torch.randn(16, 8)
    >>> whitener = Whitener.of(inputs.T @ inputs / 100)
    >>> plain, calibrated = (
    ...     choose(weight, "svd", 0.5, Settings(), whitener=each).factorization.dense() for each in (None, whitener)
    ... )
    >>> whitener.relative_error(weight, calibrated) < whitener.relative_error(weight, plain)
    True
    """

    root: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, moment: Tensor) -> "Whitener":
        """Return the Cholesky factor of the damped moment, or its symmetric root if that fails; `moment` is (d, d)."""
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
        return torch.cat([(rows.double() @ self.root).to(matrix.dtype) for rows in matrix.split(CHUNK)])

    def relative_error(self, matrix: Tensor, dense: Tensor) -> float:
        """Return the relative error of the products with inputs of the damped moment, which the fit minimises."""
        return relative_error(self(matrix), self(dense))

    def undo(self, fitted: Fitted) -> Fitted:
        """Return the factorization of A L^-1, given that of A: only the basis changes."""
        field = fitted.directions
        if field is None:
            raise UnsuitableError(f"a {type(fitted).__name__} has no basis, so it cannot be fitted to inputs.")
        rows: Tensor = getattr(fitted, field)
        changed: dict[str, Any] = {field: (rows.double() @ self.inverse).to(rows.dtype)}
        return replace(fitted, **changed)


class Products:
    """Sums x C x^T over rows x: the squares of products with inputs of a second moment C.

    Unlike in `Whitener.relative_error`, C is not damped: an error of such sums is that on the text itself.

    Parameters
    ----------
    moment : Tensor of shape (d, d)
        C.

    Examples
    --------
    >>> products = Products(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))  # the second input is always 0
    >>> from lpcompress.factor.norms import quotients
    >>> quotients(torch.tensor([[4.0, 9.0]]), [torch.tensor([[3.0, 0.0]])], [products])[products]  # 1 / 16
    0.0625
    """

    def __init__(self, moment: Tensor) -> None:
        self._inputs = times_power(moment.double(), -excess_of(moment))

    def __call__(self, rows: Tensor, where: slice) -> float:
        """Return the sum over some rows."""
        rows = rows.double()
        return max(float((rows @ self._inputs * rows).sum()), 0.0)  # rounding may make it negative


def whitened(fit: Callable[[Tensor, Budget, Settings], Fitted]) -> Callable[..., Fitted]:
    """Let a least-squares fit minimise the error of products with inputs: fit the whitened matrix, un-whiten the basis.

    Parameters
    ----------
    fit : callable (matrix, budget, settings) -> Factorization
        Fit whose result has `directions`.

    Returns
    -------
    callable (matrix, budget, settings, whitener=None) -> Factorization
    """

    @wraps(fit)
    def fit_whitened(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None = None) -> Fitted:
        if whitener is None:
            return fit(matrix, budget, settings)
        return whitener.undo(fit(whitener(matrix), budget, settings))

    return fit_whitened
