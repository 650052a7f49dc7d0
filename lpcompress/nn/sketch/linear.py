"""SK-FC: the linear layer from sketches."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from lpcompress.nn.sketch.layer import SketchedLayer


class SketchedLinear(SketchedLayer, nn.Linear):
    """A linear layer of l k (d_in + d_out) trained numbers and a bias.

    Parameters
    ----------
    in_features, out_features : int
    sketch_size : int
        k, rows of one sketch.
    repetitions : int, default=1
        l, sketches whose mean is taken.
    seed : int
        Of signs and initial values, 0 to 2^40. Give every layer of a network its own.
    bias, device, dtype
        As for `torch.nn.Linear`.
    """

    kind = "sketched_linear"
    replaces = nn.Linear
    geometry = ("in_features", "out_features")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        sketch_size: int,
        repetitions: int = 1,
        *,
        seed: int,
        bias: bool = True,
        **where: Any,
    ) -> None:
        super().__init__(in_features, out_features, bias, device="meta")
        self.hold(sketch_size, repetitions, seed, where)

    def apply_kernel(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Map (..., d_in) to (..., l k)."""
        return functional.linear(inputs, kernel)

    def combine(self, narrow: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (..., l k) to (..., d_out)."""
        return functional.linear(narrow, matrix, bias)
