"""The linear role: drop-in replacements of `nn.Linear`, and of transformers' `Conv1D`, whose weight is transposed."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lpcompress.errors import LpCompressError
from lpcompress.formats.sizes import Spec, read_shape
from lpcompress.nn.resident import ResidentMatrix


class CompressedLinear(ResidentMatrix, nn.Linear):
    """Linear layer whose matrix (outputs, inputs) is stored as a factorization.

    `in_features` and `out_features` are those of the plain layer. If `transposed`, the plain layer is a `Conv1D`, whose
    weight is (inputs, outputs).

    Examples
    --------
    >>> from lpcompress.nn import build
    >>> layer = build({"kind": "low_rank_linear", "shape": [6, 4], "rank": 2}, like=nn.Linear(4, 6))
    >>> layer(torch.randn(3, 4)).shape
    torch.Size([3, 6])
    """

    word, noun, suffix = "linear", "linear layer", "_linear"
    rounds = True
    replaces = (nn.Linear, Conv1D)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        transposed: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **sizes: Any,
    ) -> None:
        super().__init__(in_features, out_features, bias=False, device="meta")
        del self.weight, self.bias  # the plain layer's weight and bias; on `meta`, the weight takes no memory
        self.transposed = transposed
        self.allocate(out_features, in_features, **sizes, device=device, dtype=dtype)
        zeros = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", zeros)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        return self.out_features, self.in_features

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(outputs, inputs), or (inputs, outputs) if `transposed`."""
        return self.matrix_shape[::-1] if self.transposed else self.matrix_shape

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise LpCompressError if `like` does more than multiply by its matrix and add a bias."""
        if type(like) not in CompressedLinear.replaces:
            raise LpCompressError(f"the layer must be a plain torch.nn.Linear. Got {type(like).__name__}.")

    @staticmethod
    def matrix_of(like: nn.Module) -> Tensor:
        """Return the weight as (outputs, inputs)."""
        return like.weight.T if isinstance(like, Conv1D) else like.weight  # type: ignore[return-value]

    @staticmethod
    def inputs_of(like: nn.Module, hidden: Tensor) -> Tensor:
        """Return `hidden` (..., inputs) as (products, inputs)."""
        return hidden.flatten(0, -2)

    @classmethod
    def from_spec(cls, spec: Spec, like: nn.Linear) -> Self:
        """Build an empty module of the sizes in `spec`, on the device and in the dtype of `like`."""
        rows, columns = cls.matrix_of(like).shape
        read_shape(spec, (rows, columns))
        where: dict[str, Any] = {"device": like.weight.device, "dtype": like.weight.dtype}
        own: dict[str, Any] = {"bias": like.bias is not None, "transposed": isinstance(like, Conv1D)}
        return cls(columns, rows, **own, **cls.sizes_in(spec), **where)

    def keep(self, like: nn.Linear) -> None:
        """Copy the bias."""
        if self.bias is not None:
            self.bias.copy_(like.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        held = self.in_memory(hidden)
        return self.project(hidden, self.bias) if held is None else self.multiply(hidden, held, self.bias)

    def arranged(self, matrix: Tensor) -> Tensor:
        """Return `matrix` (outputs, inputs), or its transpose if `transposed`."""
        return matrix.T.contiguous() if self.transposed else matrix

    def plain(self) -> nn.Module:
        """Return the plain layer that this one replaces, with the factors multiplied out."""
        plain: Any
        if self.transposed:
            plain = Conv1D(self.out_features, 0)
            plain.nx = self.in_features
        else:
            plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.dense().detach()), self.bias
        return plain
