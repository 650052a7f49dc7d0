"""The bare-weight role: a three-dimensional parameter that a model passes to `torch.einsum` (XLNet's attention).

There is no layer to replace, so a module replaces the parameter itself. torch functions accept it like a tensor
(`__torch_function__`): in the model's own product it multiplies by its factors; for any other function they are
multiplied out first.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lpcompress.errors import LpCompressError
from lpcompress.formats.module import accept_stored_name
from lpcompress.formats.sizes import Spec, read_shape
from lpcompress.nn.resident import ResidentMatrix

INTO_HEADS, FROM_HEADS = "ibh,hnd->ibnd", "ibnd,hnd->ibh"
"""Equations of the products with bare weights: hidden states to heads, and heads to hidden states."""


class BareWeight(nn.Module):
    """A parameter of shape (width, heads, head size) wrapped as a layer, so that it can be replaced like one.

    Attributes
    ----------
    weight : Parameter
        The model's own parameter, not a copy.
    equation : str
        Equation of the `einsum`: `INTO_HEADS` or `FROM_HEADS`.
    """

    def __init__(self, weight: nn.Parameter, equation: str) -> None:
        super().__init__()
        self.weight, self.equation = weight, equation


class CompressedBareWeight(ResidentMatrix):
    """Bare weight whose matrix (outputs, inputs) is stored as a factorization.

    Examples
    --------
    >>> from lpcompress.nn import build
    >>> plain = BareWeight(nn.Parameter(torch.randn(8, 2, 3)), INTO_HEADS)
    >>> weight = build({"kind": "low_rank_einsum", "shape": [6, 8], "rank": 2}, like=plain)
    >>> torch.einsum(INTO_HEADS, torch.randn(5, 1, 8), weight).shape
    torch.Size([5, 1, 2, 3])
    """

    word, noun, suffix = "linear", "linear layer", "_einsum"
    rounds = True
    replaces = (BareWeight,)
    _is_hf_initialized: ClassVar = True  # the model must not initialise it: that would write into a multiplied-out copy

    def __init__(
        self,
        shape: tuple[int, int, int],
        equation: str,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **sizes: Any,
    ) -> None:
        super().__init__()
        self.shape, self.equation = torch.Size(shape), equation
        self.allocate(*self.matrix_shape, **sizes, device=device, dtype=dtype)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        width, heads, size = self.shape
        return (heads * size, width) if self.equation == INTO_HEADS else (width, heads * size)

    @classmethod
    def stored_name(cls, layer: str, leaf: str) -> str:
        """Return the name of the bare weight itself for the tensor stored as it, the tensor's own for all others."""
        return layer if leaf == cls.weight_name else f"{layer}.{leaf}"

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise LpCompressError unless `like` is a bare weight."""
        if type(like) is not BareWeight:
            raise LpCompressError(f"the layer must be a bare weight. Got {type(like).__name__}.")

    @staticmethod
    def matrix_of(like: BareWeight) -> Tensor:
        """Return the weight as (outputs, inputs)."""
        matrix = like.weight.flatten(1)
        return matrix.T if like.equation == INTO_HEADS else matrix

    @staticmethod
    def inputs_of(like: BareWeight, hidden: Tensor) -> Tensor:
        """Return `hidden` (i, b, inputs) or (i, b, heads, head size) as (products, inputs)."""
        return hidden.flatten(0, 1).flatten(1)

    @staticmethod
    def outputs_of(like: BareWeight, output: Tensor) -> Tensor:
        """Return `output` (i, b, heads, head size) or (i, b, outputs) as (products, outputs)."""
        return output.flatten(0, 1).flatten(1)

    @classmethod
    def from_spec(cls, spec: Spec, like: BareWeight) -> Self:
        """Build an empty module of the sizes in `spec`, on the device and in the dtype of `like`."""
        rows, columns = cls.matrix_of(like).shape
        read_shape(spec, (rows, columns))
        where: dict[str, Any] = {"device": like.weight.device, "dtype": like.weight.dtype}
        width, heads, size = like.weight.shape
        return cls((width, heads, size), like.equation, **cls.sizes_in(spec), **where)

    def keep(self, like: BareWeight) -> None:
        """Copy nothing: a bare weight has nothing besides its matrix."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `torch.einsum(self.equation, hidden, weight)` with the weight that this module replaces."""
        inputs = hidden if self.equation == INTO_HEADS else hidden.flatten(-2)
        held = self.in_memory(inputs)
        outputs = self.project(inputs) if held is None else self.multiply(inputs, held, None)
        return outputs.unflatten(-1, self.shape[1:]) if self.equation == INTO_HEADS else outputs

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a torch function: by the factors if it is the model's product, else with them multiplied out."""
        match args:
            case (str(equation), Tensor() as hidden, CompressedBareWeight() as weight):
                if function is torch.einsum and equation == weight.equation:
                    return weight(hidden)
        named = {key: _multiplied_out(value) for key, value in (kwargs or {}).items()}
        return function(*map(_multiplied_out, args), **named)

    def arranged(self, matrix: Tensor) -> Tensor:
        """Return `matrix` (outputs, inputs) as (width, heads, head size)."""
        return (matrix.T if self.equation == INTO_HEADS else matrix).reshape(self.shape)

    def plain(self) -> BareWeight:
        """Return the weight that this module replaces as a `BareWeight`, with the factors multiplied out."""
        return BareWeight(nn.Parameter(self.dense().detach()), self.equation)


def accept_stored_names(owner: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Rename the codes of the bare weights of `owner` in `state_dict` from their names in a checkpoint.

    A hook for `load_state_dict`, which Trainer calls with the file of its best checkpoint. It belongs to the owner,
    because torch would report the bare weight's own name as unexpected before it gets to the module.
    """
    for name, child in owner.named_children():
        if isinstance(child, CompressedBareWeight):
            accept_stored_name(child, state_dict, f"{prefix}{name}.")


def _multiplied_out(value: Any) -> Any:
    return value.weight_in_memory() if isinstance(value, CompressedBareWeight) else value
