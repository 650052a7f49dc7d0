"""Loss of each method as a function of the size of a matrix."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lpcompress.errors import UnsuitableError
from lpcompress.factor.allocation import Curve
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.base import Factorization
from lpcompress.methods import AUTO, METHODS, candidates, resolve

COARSE = (0.05, 0.1, 0.2, 0.4, 0.7)  # shares of the bytes at which a method without a cheaper curve is fitted

Draw = Callable[[Tensor, Budget, Settings, Whitener | None], Curve]


def fitted_curve(method: Callable[[Tensor, Budget, Settings], Factorization]) -> Draw:
    """Return the curve function of a method whose loss only a fit gives: it fits at each size in `COARSE`."""

    def curve(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None) -> Curve:
        matrix, points = whitener(matrix) if whitener else matrix, []
        settings = replace(settings, starts=1)  # on linear layers further starts found nothing better
        for share in COARSE:
            size = int(share * budget.n_bytes)
            try:
                fitted = method(matrix, Budget(size, budget.item), settings)
            except UnsuitableError:  # too small for this method
                continue
            points.append((size, relative_error(matrix, fitted.dense()) ** 2))
        return Curve.through(points)

    return curve


def curves_of(
    matrix: Tensor, method: str, budget: Budget, settings: Settings, whitener: Whitener | None = None
) -> dict[str, Curve]:
    """Return the curve of a method, or of each candidate of "auto" under a size of the model, by name of the method.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        Rows already scaled by their weights.
    method : str
    budget : Budget
        Bytes of the dense matrix.
    settings : Settings
    whitener : Whitener, optional
        Measure the loss of products with inputs of this second moment.
    """
    names = candidates(under_size=True) if method == AUTO else (method,)
    with torch.no_grad():
        return {name: resolve(METHODS[name].curve)(matrix, budget, settings, whitener) for name in names}
