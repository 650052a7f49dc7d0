"""SK-CONV: convolutions from sketches."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.nn.sketch.layer import SketchedLayer


class SketchedConvolution(SketchedLayer):
    """A convolution of l k h w (d_in + d_out) trained numbers and a bias; base of the two that follow.

    Parameters
    ----------
    in_channels, out_channels, kernel_size
        As for the plain convolution; so are `geometry` (stride, padding, dilation, padding_mode), bias, device and
        dtype. Groups are not supported.
    sketch_size, repetitions, seed
        As for `SketchedLinear`.
    """

    geometry = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
    convolve: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        sketch_size: int,
        repetitions: int = 1,
        *,
        seed: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **geometry: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias, device="meta", **geometry)
        self.hold(sketch_size, repetitions, seed, {"device": device, "dtype": dtype})

    def apply_kernel(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Map (batch, d_in, *image) to (batch, channels, *image)."""
        return self._conv_forward(inputs, kernel, None)  # type: ignore[operator]

    def combine(self, narrow: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (batch, channels, *image) to (batch, d_out, *image)."""
        return type(self).convolve(narrow, matrix[(..., *[None] * (self.basis.dim() - 2))], bias)


class SketchedConv1d(SketchedConvolution, nn.Conv1d):
    """`nn.Conv1d` from sketches; see `SketchedConvolution`."""

    kind = "sketched_conv1d"
    replaces = nn.Conv1d
    convolve = staticmethod(functional.conv1d)


class SketchedConv2d(SketchedConvolution, nn.Conv2d):
    """`nn.Conv2d` from sketches; see `SketchedConvolution`."""

    kind = "sketched_conv2d"
    replaces = nn.Conv2d
    convolve = staticmethod(functional.conv2d)
