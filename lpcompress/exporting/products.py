"""Linear layers in a graph whose products are int8: `DynamicQuantizeLinear` and `MatMulInteger` of ONNX."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.onnx import ops

from lpcompress.nn import CompressedLinear, FactoredMatrix

LARGEST = 63  # of an integer weight: pairs of products with an unsigned byte then fit 16 bits, as older CPUs need
OPSET = 11  # the version of both operators


class IntegerProducts(nn.Module):
    """A linear layer for a graph: inputs are rounded to bytes for each call, weights once, with a scale per output.

    It records operators and does not compute: outside a graph its results are meaningless.

    Parameters
    ----------
    matrix : Tensor of shape (outputs, inputs)
    bias : Tensor of shape (outputs,) or None

    References
    ----------
    ONNX operators DynamicQuantizeLinear and MatMulInteger. ONNX Runtime fuses the two with what follows into one.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, matrix: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight, scales = rounded(matrix.detach().float())
        self.register_buffer("weight", weight.T.contiguous())  # (inputs, outputs)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    @classmethod
    def of(cls, layer: Any) -> "IntegerProducts":
        """Return the replacement of a linear layer, plain or compressed."""
        held = isinstance(layer, FactoredMatrix)
        matrix = layer.factorization().dense() if held else CompressedLinear.matrix_of(layer)
        return cls(matrix, layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        kinds = (torch.uint8, torch.float32, torch.uint8)
        integers, scale, zero = ops.symbolic_multi_out(
            "DynamicQuantizeLinear", [hidden], dtypes=kinds, shapes=[hidden.shape, (), ()], version=OPSET
        )
        shape = (*hidden.shape[:-1], self.weight.shape[1])
        inputs = [integers, self.weight, zero]
        products = ops.symbolic("MatMulInteger", inputs, dtype=torch.int32, shape=shape, version=OPSET)
        products = products.to(torch.float32) * (scale * self.scales)
        return products if self.bias is None else products + self.bias


def rounded(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 (n, d) and scales (n,), whose product is near `matrix` (n, d).

    Examples
    --------
    >>> weight, scales = rounded(torch.tensor([[1.0, -0.4], [0.0, 0.0]]))
    >>> weight.tolist(), [round(scale, 4) for scale in scales.tolist()]
    ([[63, -25], [0, 0]], [0.0159, 1.0])
    """
    largest = matrix.abs().amax(dim=1)
    scales = torch.where(largest > 0, largest / LARGEST, 1.0)
    return (matrix / scales.unsqueeze(1)).round().to(torch.int8), scales
