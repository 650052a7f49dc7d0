"""Translations of torch operators that torch.onnx gets wrong."""

from collections.abc import Callable
from typing import Any

import torch


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translation of each such operator.

    torch 2.13 cannot promote the integers in `1.0 - mask`, which XLNet computes.
    """
    from onnxscript import opset20 as onnx

    def rsub(tensor: Any, number: float, alpha: float = 1) -> Any:
        number = onnx.Constant(value_float=number) if isinstance(number, float) else onnx.CastLike(number, tensor)
        return onnx.Sub(number, onnx.CastLike(tensor, number))

    return {torch.ops.aten.rsub.Scalar: rsub}
