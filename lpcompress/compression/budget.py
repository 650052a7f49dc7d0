"""Sharing one size for the whole model: how many bytes each layer gets, and by which method."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lpcompress.compression.records import Share
from lpcompress.errors import BudgetError
from lpcompress.factor.allocation import Curve, allocate
from lpcompress.factor.choice import weighted
from lpcompress.factor.curves import curves_of
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.surgery.layer import Layer

HALF_A_BYTE = 0.5  # so that a ratio, turned into bytes again, is not rounded to one byte less


@dataclass(frozen=True)
class LayerCurves:
    """The curves of one layer by method; sizes are what the module stores, bias and padding row included.

    Attributes
    ----------
    before : int
        Bytes of the layer as it is, at which nothing is lost.
    by_method : dict of str to Curve
    """

    before: int
    by_method: Mapping[str, Curve]

    def envelope(self) -> Curve:
        """Return the least loss of all methods and of the layer as it is."""
        points = [point for curve in self.by_method.values() for point in curve.points() if point[0] < self.before]
        return Curve.through([*points, (self.before, 0.0)])

    def share(self, size: int) -> Share | None:
        """Return the best method at a size; None if the layer stays as it is."""
        if size >= self.before:
            return None
        losses = {method: curve.at(size) for method, curve in self.by_method.items()}
        best = min(losses, key=lambda method: losses[method])
        return Share(best, 1 - (size + HALF_A_BYTE) / self.before, losses[best])


def layer_curves(
    layer: Layer,
    method: str,
    settings: Settings,
    row_weights: Tensor | None,
    whitener: Whitener | None = None,
) -> LayerCurves:
    """Return the curves of a plain layer for a method, or for the candidates of "auto".

    Parameters
    ----------
    layer : Layer
        With its tensors in memory.
    method : str
    settings : Settings
    row_weights : Tensor of shape (n,) or None
    whitener : Whitener, optional
        Losses are those of products with the layer's inputs.
    """
    matrix, beside = layer.matrix_to_fit(), layer.bytes_beside()
    work = weighted(matrix, row_weights)[0]
    budget = Budget(matrix.numel() * matrix.element_size(), matrix.element_size())
    found = curves_of(work, method, budget, settings, whitener)
    return LayerCurves(
        before=layer.stored()[1],
        by_method={
            name: Curve.through((size + beside, loss) for size, loss in curve.points()) for name, curve in found.items()
        },
    )


def share_out(curves: Mapping[str, LayerCurves], weights: Mapping[str, float], n_bytes: int) -> dict[str, Share]:
    """Return what each layer gets; those that stay as they are have no entry.

    Parameters
    ----------
    curves : mapping of name to LayerCurves
    weights : mapping of name to float
        Sensitivity of the model to the loss of each layer.
    n_bytes : int
        That all of them together may store.

    Raises
    ------
    BudgetError
        If the budget cannot be met, or takes nothing away.
    """
    before = sum(each.before for each in curves.values())
    if n_bytes >= before:
        raise BudgetError(f"the chosen layers take {before:,} bytes and may take {n_bytes:,}. Ask for a smaller model.")
    sizes = allocate({name: each.envelope() for name, each in curves.items()}, weights, n_bytes)
    shares = {name: curves[name].share(size) for name, size in sizes.items()}
    return {name: share for name, share in shares.items() if share}
