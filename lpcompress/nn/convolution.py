"""The convolution role: drop-in replacements of `nn.Conv1d` and `nn.Conv2d`."""

from math import prod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from lpcompress.errors import LpCompressError
from lpcompress.formats.sizes import Spec, read_shape
from lpcompress.nn.resident import ResidentMatrix

PLAIN: dict[int, tuple[Any, Any]] = {
    1: (nn.Conv1d, functional.conv1d),
    2: (nn.Conv2d, functional.conv2d),
}
"""Number of spatial dimensions -> the plain layer and its function."""

GEOMETRY = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")


class CompressedConvolution(ResidentMatrix, _ConvNd):
    """Convolution whose weight, as a matrix (channels out, channels in x kernel), is stored as a factorization.

    The basis vectors are a few filters of the kernel's size, applied with the plain layer's stride, padding and
    dilation; the codes then mix their outputs at each position, like a 1 x 1 convolution.

    Examples
    --------
    >>> from lpcompress.nn import build
    >>> plain = nn.Conv2d(3, 8, kernel_size=3, padding=1)
    >>> layer = build({"kind": "low_rank_conv", "shape": [8, 27], "rank": 2}, like=plain)
    >>> layer(torch.randn(1, 3, 10, 10)).shape
    torch.Size([1, 8, 10, 10])
    """

    word, noun, suffix = "conv", "convolution", "_conv"
    replaces: ClassVar[tuple[type[nn.Module], ...]] = (nn.Conv1d, nn.Conv2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        *,
        stride: tuple[int, ...],
        padding: str | tuple[int, ...],
        dilation: tuple[int, ...],
        padding_mode: str = "zeros",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **sizes: Any,
    ) -> None:
        nowhere = (0,) * len(kernel_size)
        geometry = in_channels, out_channels, kernel_size, stride, padding, dilation
        super().__init__(*geometry, False, nowhere, 1, False, padding_mode, device="meta")  # type: ignore[arg-type]
        del self.weight  # the plain layer's weight, which takes no memory on `meta`
        self.allocate(*self.matrix_shape, **sizes, device=device, dtype=dtype)
        zeros = nn.Parameter(torch.zeros(out_channels, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", zeros)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(channels out, channels in x kernel)."""
        return self.out_channels, self.in_channels * prod(self.kernel_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(channels out, channels in, *kernel)."""
        return self.out_channels, self.in_channels, *self.kernel_size

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise LpCompressError unless `like` is a plain convolution whose weight is one matrix."""
        if type(like) not in CompressedConvolution.replaces:
            raise LpCompressError(f"the layer must be a plain torch.nn.Conv1d or Conv2d. Got {type(like).__name__}.")
        if like.groups != 1:
            raise LpCompressError(
                f"a convolution must have groups=1. Got {like.groups}: its weight is {like.groups} small matrices, not"
                " one. Leave the layer out."
            )

    @staticmethod
    def matrix_of(like: nn.Module) -> Tensor:
        """Return the weight as (channels out, channels in x kernel)."""
        return like.weight.flatten(1)  # type: ignore[operator]

    @staticmethod
    def inputs_of(like: Any, hidden: Tensor) -> Tensor:
        """Return the patch of `hidden` (..., channels in, *size) at each position: (positions, inputs)."""
        mode = "constant" if like.padding_mode == "zeros" else like.padding_mode
        images = hidden if hidden.dim() == len(like.kernel_size) + 2 else hidden.unsqueeze(0)
        padded = functional.pad(images, like._reversed_padding_repeated_twice, mode=mode)
        window, dilation, stride = like.kernel_size, like.dilation, like.stride
        if len(window) == 1:  # `unfold` takes only images: make these one pixel high
            padded, window, dilation, stride = padded.unsqueeze(-2), (1, *window), (1, *dilation), (1, *stride)
        patches = functional.unfold(padded, window, dilation=dilation, stride=stride)  # (images, d, positions)
        return patches.movedim(1, -1).flatten(0, 1)

    @staticmethod
    def outputs_of(like: Any, output: Tensor) -> Tensor:
        """Return the channels of `output` (..., channels out, *size) at each position: (positions, channels out)."""
        images = output if output.dim() == len(like.kernel_size) + 2 else output.unsqueeze(0)
        return images.movedim(1, -1).flatten(0, -2)

    @classmethod
    def from_spec(cls, spec: Spec, like: Any) -> Self:
        """Build an empty module of the sizes in `spec`, with the geometry, device and dtype of `like`."""
        rows, columns = cls.matrix_of(like).shape
        read_shape(spec, (rows, columns))
        own: dict[str, Any] = {name: getattr(like, name) for name in GEOMETRY} | {"bias": like.bias is not None}
        return cls(**own, **cls.sizes_in(spec), device=like.weight.device, dtype=like.weight.dtype)

    def keep(self, like: Any) -> None:
        """Copy the bias."""
        if self.bias is not None:
            self.bias.copy_(like.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., channels in, *size) to (..., channels out, *size)."""
        held = self.in_memory(hidden)
        if held is not None:
            return self.convolve(hidden, self.arranged(held), self.bias)
        return self.project(hidden, self.bias).movedim(-1, self.channels_at)

    @property
    def channels_at(self) -> int:
        """Dimension of the channels in images, counted from the end."""
        return -1 - len(self.kernel_size)

    def project(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (..., channels in, *size) to (..., *size, channels out)."""
        if self.right is None:  # the codes are the filters
            return self.convolve(hidden, self.dense(), bias).movedim(self.channels_at, -1)
        return super().project(hidden, bias)

    def analyse(self, hidden: Tensor, basis: Tensor) -> Tensor:
        """Convolve with filters `basis` (width, d): (..., channels in, *size) to (..., *size, width)."""
        filters = basis.view(-1, self.in_channels, *self.kernel_size)
        return self.convolve(hidden, filters).movedim(self.channels_at, -1)

    def convolve(self, hidden: Tensor, filters: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve with `filters` (filters, channels in, *kernel) as the plain layer does with its weight."""
        padding = self.padding
        if self.padding_mode != "zeros":
            hidden, padding = (
                functional.pad(hidden, self._reversed_padding_repeated_twice, mode=self.padding_mode),
                (0,) * len(self.kernel_size),
            )
        _, function = PLAIN[len(self.kernel_size)]
        return function(hidden, filters, bias, self.stride, padding, self.dilation)

    def arranged(self, matrix: Tensor) -> Tensor:
        """Return `matrix` (channels out, channels in x kernel) as (channels out, channels in, *kernel)."""
        return matrix.view(-1, self.in_channels, *self.kernel_size)

    def plain(self) -> nn.Module:
        """Return the plain layer that this one replaces, with the factors multiplied out."""
        layer, _ = PLAIN[len(self.kernel_size)]
        plain = layer(**{name: getattr(self, name) for name in GEOMETRY}, bias=False, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.dense().detach()), self.bias
        return plain
