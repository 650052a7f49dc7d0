"""What each method loses at each size of a matrix, without fitting it at every one."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lpcompress.errors import LpCompressError
from lpcompress.factor.allocation import Curve
from lpcompress.factor.methods.adaptive import adaptive
from lpcompress.factor.methods.messi import messi
from lpcompress.factor.methods.sparse import sparse_curve
from lpcompress.factor.methods.svd import low_rank_curve
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.base import Factorization

COARSE = (0.05, 0.1, 0.2, 0.4, 0.7)  # at which methods are fitted whose loss nothing else tells

Draw = Callable[[Tensor, Budget, Settings, Whitener | None], Curve]


def fitted_curve(method: Callable[[Tensor, Budget, Settings], Factorization]) -> Draw:
    """Return the curve of a method that must be fitted at every size."""

    def curve(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None) -> Curve:
        matrix, points = whitener(matrix) if whitener else matrix, []
        settings = replace(settings, starts=1)  # on linear layers the others found nothing better
        for share in COARSE:
            size = int(share * budget.n_bytes)
            try:
                fitted = method(matrix, Budget(size, budget.item), settings)
            except LpCompressError:  # too small for this method
                continue
            points.append((size, relative_error(matrix, fitted.dense()) ** 2))
        return Curve.through(points)

    return curve


CURVES: dict[str, Draw] = {
    "sparse": sparse_curve,
    "adaptive": fitted_curve(adaptive),
    "messi": fitted_curve(messi),
    "lp": low_rank_curve,  # its least-squares form: the loss in other norms goes with it
    "svd": low_rank_curve,
}

AUTO_UNDER_BUDGET = ("sparse", "lp")
"""What `auto` chooses from under a budget: `adaptive` would have to be fitted at every size, and loses to `sparse`."""


def curves_of(
    matrix: Tensor, method: str, budget: Budget, settings: Settings, whitener: Whitener | None = None
) -> dict[str, Curve]:
    """Return the curve of a method, or those of the candidates of "auto", by method.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        Rows already scaled by their weights.
    method : str
    budget : Budget
        Bytes of the matrix as it is.
    settings : Settings
    whitener : Whitener, optional
        Losses are those of products with inputs of this second moment.
    """
    names = AUTO_UNDER_BUDGET if method == "auto" else (method,)
    with torch.no_grad():
        return {name: CURVES[name](matrix, budget, settings, whitener) for name in names}
