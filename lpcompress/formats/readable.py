"""The `weight` of a compressed layer, as other code reads it: the plain layer's weight, multiplied out when needed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch._C import TensorBase

from lpcompress.errors import LpCompressError

if TYPE_CHECKING:
    from lpcompress.formats.module import FactoredMatrix

GETTERS = (
    "shape",
    "dtype",
    "device",
    "ndim",
    "layout",
    "requires_grad",
    "is_meta",
    "is_cpu",
    "is_cuda",
)
METADATA: frozenset[Any] = frozenset(
    {getattr(Tensor, name).__get__ for name in GETTERS}
    | {Tensor.size, Tensor.dim, Tensor.numel, Tensor.nelement, Tensor.element_size, Tensor.__len__}
    | {Tensor.is_floating_point, Tensor.is_complex, Tensor.get_device, Tensor.dim_order, torch.is_floating_point}
)
"""Functions that a `ReadableWeight` answers without multiplying out."""

SETTERS: frozenset[Any] = frozenset(getattr(TensorBase, name).__set__ for name in ("data", "requires_grad"))


class ReadableWeight(Tensor):
    """A read-only stand-in for the weight of the plain layer that a compressed layer replaces.

    Models read the weights of their layers outside the layers too: for their dtype (T5, CLIP), or to multiply by them
    (the heads of DeBERTa and MobileBERT). Shape, dtype and device are known at once; any other function of torch gets
    the factors multiplied out, with gradients.

    Parameters
    ----------
    layer : FactoredMatrix

    Raises
    ------
    LpCompressError
        From any function that writes to the weight: the result would be lost.

    Examples
    --------
    >>> from torch import nn
    >>> from lpcompress.nn import build
    >>> layer = build({"kind": "low_rank_linear", "shape": [6, 4], "rank": 2}, like=nn.Linear(4, 6))
    >>> layer.weight.shape, layer.weight.dtype, (layer.weight @ torch.ones(4)).shape
    (torch.Size([6, 4]), torch.float32, torch.Size([6]))
    """

    _is_hf_initialized: ClassVar = True  # so that transformers does not initialise it
    layer: "FactoredMatrix"

    @staticmethod
    def __new__(cls: Any, layer: "FactoredMatrix") -> "ReadableWeight":
        """Make a tensor without storage."""
        where: dict[str, Any] = {"dtype": layer.dtype, "device": layer.device}
        made = Tensor._make_wrapper_subclass(cls, layer.weight_shape, **where)
        made.layer = layer
        return made

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer questions about shape and dtype; multiply out for all others; refuse to be written to."""
        if function in METADATA:
            return super().__torch_function__(function, types, args, kwargs or {})
        named = kwargs or {}
        first = next(iter([*args, *named.values()]), None)
        written = [first if _writes(getattr(function, "__name__", "")) else None, named.get("out")]
        if function in SETTERS or any(isinstance(each, ReadableWeight) for each in written):
            refuse_writing()
        return function(*map(multiplied_out, args), **{key: multiplied_out(value) for key, value in named.items()})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Multiply out for operators that torch calls directly."""
        named = {key: multiplied_out(value) for key, value in (kwargs or {}).items()}
        return function(*map(multiplied_out, args), **named)


def _writes(name: str) -> bool:
    """Return whether a function of this name changes its first argument."""
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name == "__setitem__" or (name.startswith("__i") and name not in {"__index__", "__int__"})


def refuse_writing() -> None:
    """Raise LpCompressError: the weight of a compressed layer cannot be written to."""
    raise LpCompressError(
        "the weight of a compressed layer cannot be written to, because the layer stores factors instead. Call"
        " model.dequantize() first, then merge or change weights."
    )


def multiplied_out(value: Any) -> Any:
    """Return `value`, with every `ReadableWeight` in it replaced by the plain layer's weight."""
    if isinstance(value, ReadableWeight):
        return value.layer.weight_in_memory()
    return type(value)(map(multiplied_out, value)) if type(value) in (list, tuple) else value
