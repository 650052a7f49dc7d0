"""Divide a model size among layers: how many bytes each layer gets, and which method."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lpcompress.compression.records import Share
from lpcompress.errors import BudgetError
from lpcompress.factor.allocation import Curve, allocate
from lpcompress.factor.curves import curves_of
from lpcompress.factor.preparation import prepare
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.surgery.layer import Layer

HALF_A_BYTE = 0.5  # so that converting a ratio back to bytes does not round down by one byte


@dataclass(frozen=True)
class LayerCurves:
    """Error curves of one layer, by method; sizes are stored bytes, bias and padding row included.

    Attributes
    ----------
    before : int
        Bytes of the dense layer, at which the loss is zero.
    by_method : mapping of str to Curve
    """

    before: int
    by_method: Mapping[str, Curve]

    def envelope(self) -> Curve:
        """Return the lowest loss at each size over all methods and the dense layer."""
        points = [point for curve in self.by_method.values() for point in curve.points() if point[0] < self.before]
        return Curve.through([*points, (self.before, 0.0)])

    def share(self, size: int) -> Share | None:
        """Return the best method at a size in bytes; None if the layer stays dense."""
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
    """Return the error curves of a plain layer for one method, or for the candidates of "auto".

    Parameters
    ----------
    layer : Layer
        Its tensors must be in memory.
    method : str
    settings : Settings
    row_weights : Tensor of shape (n,) or None
    whitener : Whitener, optional
        With it, losses are those of the products with the layer's inputs.
    """
    matrix, beside = layer.matrix_to_fit(), layer.bytes_beside()
    work, _ = prepare(matrix, row_weights)
    budget = Budget(matrix.numel() * matrix.element_size(), matrix.element_size())
    found = curves_of(work, method, budget, settings, whitener)
    return LayerCurves(
        before=layer.stored()[1],
        by_method={
            name: Curve.through((size + beside, loss) for size, loss in curve.points()) for name, curve in found.items()
        },
    )


def share_out(curves: Mapping[str, LayerCurves], weights: Mapping[str, float], n_bytes: int) -> dict[str, Share]:
    """Divide `n_bytes` among layers; layers that stay dense have no entry in the result.

    Parameters
    ----------
    curves : mapping of str to LayerCurves
        Error curves by layer name.
    weights : mapping of str to float
        Sensitivity of the model to the loss of each layer.
    n_bytes : int
        Bytes that all these layers together may store.

    Returns
    -------
    dict of str to Share

    Raises
    ------
    BudgetError
        If the budget cannot be met, or is no smaller than the dense layers.
    """
    before = sum(each.before for each in curves.values())
    if n_bytes >= before:
        raise BudgetError(
            f"the chosen layers take {before:,} bytes; the size allows {n_bytes:,}. Ask for a smaller model."
        )
    sizes = allocate({name: each.envelope() for name, each in curves.items()}, weights, n_bytes)
    shares = {name: curves[name].share(size) for name, size in sizes.items()}
    return {name: share for name, share in shares.items() if share}
