"""Errors of a fitted layer, and of plain SVD at the same size."""

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lpcompress.errors import UnsuitableError
from lpcompress.factor.linalg import energy_of
from lpcompress.factor.methods.svd import spectrum_and_parts
from lpcompress.factor.norms import Powers, quotients
from lpcompress.factor.whitening import Products
from lpcompress.progress import Told, unheard


@dataclass(frozen=True)
class Errors:
    """Relative errors of a factored matrix: see `LayerRecord`."""

    frobenius: float
    p: float
    weighted: float
    calibrated: float | None

    @property
    def finite(self) -> bool:
        """Whether all of them are finite: whether the factors, multiplied out, are within the range of their dtype."""
        return all(math.isfinite(each) for each in (self.frobenius, self.p, self.weighted, self.calibrated or 0.0))


@dataclass(frozen=True)
class Baseline:
    """Plain SVD (no row weights, no whitening) at the size of a fit.

    Attributes
    ----------
    errors : Errors or None
        None if it was not fitted, or not even rank 1 fits.
    energy : dict of str to float
        See `LayerRecord`; empty if it was not fitted for comparison.
    """

    errors: Errors | None = None
    energy: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """How the errors of one layer are measured.

    Attributes
    ----------
    p : float
    row_weights : Tensor of shape (n,) or None
    moment : Tensor of shape (d, d) or None
        Second moment of the layer's inputs; None without calibration.
    """

    p: float
    row_weights: Tensor | None
    moment: Tensor | None

    def errors(self, matrix: Tensor, parts: Iterable[Tensor]) -> Errors:
        """Return the errors of an approximation of `matrix`, which comes some rows at a time."""
        squares = Powers()
        by_p = squares if self.p == squares.p else Powers(self.p)
        weighted = squares if self.row_weights is None else Powers(row_weights=self.row_weights)
        products = None if self.moment is None else Products(self.moment)
        sums = {each for each in (squares, by_p, weighted, products) if each is not None}
        found = quotients(matrix, parts, sums)
        return Errors(
            frobenius=found[squares] ** 0.5,
            p=found[by_p] ** (1 / self.p),
            weighted=found[weighted] ** 0.5,
            calibrated=None if products is None else found[products] ** 0.5,
        )

    @torch.no_grad()
    def of_svd(self, matrix: Tensor, share: float, told: Told = unheard) -> Baseline:
        """Fit plain SVD with the share `share` of the bytes removed; its axes tell the spectrum besides.

        `told` takes the share of the work that is done.
        """
        errors, energy = None, {}
        with suppress(UnsuitableError, torch.linalg.LinAlgError):  # an eigenvalue decomposition may not converge
            values, parts = spectrum_and_parts(matrix, share, told)
            energy = energy_of(values)
            errors = self.errors(matrix, parts)
        return Baseline(errors if errors and errors.finite else None, energy)
