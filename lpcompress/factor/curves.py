"""What each method loses at each size of a matrix, without fitting it at every one."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lpcompress.errors import LpCompressError
from lpcompress.factor.adaptive import adaptive
from lpcompress.factor.allocation import Curve
from lpcompress.factor.factorization import Factorization
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.messi import messi
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.sparse import loss_at
from lpcompress.factor.whitening import Whitener

SHARES = (0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
"""Of the dense bytes. Levels of 1, 2, 4 and 8 bits take 3, 6, 12 and 25 % of float32's bytes: between, it is denser."""
COARSE = (0.05, 0.1, 0.2, 0.4, 0.7)  # at which methods are fitted whose loss nothing else tells

Draw = Callable[[Tensor, Budget, Settings, Whitener | None], Curve]


def low_rank_curve(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None) -> Curve:
    """Return the loss of ranks up to break-even, exactly: the energy beyond them in the spectrum."""
    matrix = whitener(matrix) if whitener else matrix
    n, d = matrix.shape
    energies, _ = principal_axes(matrix)
    kept = energies.cumsum(0) / energies.sum().clamp_min(torch.finfo(energies.dtype).tiny)
    most = min((budget.n_bytes - 1) // (budget.item * (n + d)), len(energies))
    ranks = sorted({max(1, round(most * share)) for share in torch.linspace(0, 1, 65).tolist()}) if most else []
    losses = (1 - kept).clamp_min(0).tolist()
    return Curve.through((rank * budget.item * (n + d), losses[rank - 1]) for rank in ranks)


def sparse_curve(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None) -> Curve:
    """Return the loss of sparse codes at `SHARES` of the bytes, by thresholds on a sample of rows."""
    sizes = [int(share * budget.n_bytes) for share in SHARES]
    losses = loss_at(matrix, [Budget(size, budget.item) for size in sizes], settings.seed, whitener)
    return Curve.through((size, loss) for size, loss in zip(sizes, losses, strict=True) if loss <= 1)


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
