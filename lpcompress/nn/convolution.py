"""Drop-in replacements of `nn.Conv1d` and `nn.Conv2d`: a convolution with few filters, then a 1 x 1 one."""

from math import prod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from lpcompress.errors import LpCompressError
from lpcompress.formats.clustered import ClusteredMatrix
from lpcompress.formats.low_rank import LowRankMatrix
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sizes import Spec, read_shape
from lpcompress.formats.sketched import SketchedMatrix
from lpcompress.formats.sparse import SparseCodedMatrix

PLAIN: dict[int, tuple[Any, Any]] = {
    1: (nn.Conv1d, functional.conv1d),
    2: (nn.Conv2d, functional.conv2d),
}
"""Number of spatial dimensions -> the layer and the function."""

GEOMETRY = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")


class CompressedConvolution(FactoredMatrix, _ConvNd):
    """A convolution whose weight, seen as (channels out, channels in x kernel), is held as a factorization.

    The basis vectors are filters of the kernel's size, with the plain layer's stride, padding and dilation; the
    codes mix their outputs at each position.
    """

    role = "conv"
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
        _ConvNd.__init__(self, *geometry, False, nowhere, 1, False, padding_mode, device="meta")  # type: ignore[arg-type]
        del self.weight  # of the plain layer's size
        self.allocate(*self.matrix_shape, **sizes, device=device, dtype=dtype)
        zeros = nn.Parameter(torch.zeros(out_channels, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", zeros)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(channels out, channels in x kernel)."""
        return self.out_channels, self.in_channels * prod(self.kernel_size)

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise if `like` is not one plain matrix."""
        if type(like) not in CompressedConvolution.replaces:
            raise LpCompressError(f"the layer must be a plain torch.nn.Conv1d or Conv2d. Got {type(like).__name__}.")
        if like.groups != 1:
            raise LpCompressError(
                f"a convolution must have groups=1. Got {like.groups}: its weight is that many small matrices, not one;"
                " leave the layer out."
            )

    @staticmethod
    def matrix_of(like: nn.Module) -> Tensor:
        """Return the weight as (channels out, channels in x kernel)."""
        return like.weight.flatten(1)  # type: ignore[operator]

    @staticmethod
    def inputs_of(like: Any, hidden: Tensor) -> Tensor:
        """Return the patch of `hidden` (..., channels in, *size) at each position, row by row."""
        mode = "constant" if like.padding_mode == "zeros" else like.padding_mode
        images = hidden if hidden.dim() == len(like.kernel_size) + 2 else hidden.unsqueeze(0)
        padded = functional.pad(images, like._reversed_padding_repeated_twice, mode=mode)
        window, dilation, stride = like.kernel_size, like.dilation, like.stride
        if len(window) == 1:  # `unfold` knows images alone: these are one pixel high
            padded, window, dilation, stride = padded.unsqueeze(-2), (1, *window), (1, *dilation), (1, *stride)
        patches = functional.unfold(padded, window, dilation=dilation, stride=stride)  # (images, d, positions)
        return patches.movedim(1, -1).flatten(0, 1)

    @staticmethod
    def outputs_of(like: Any, output: Tensor) -> Tensor:
        """Return the channels of `output` (..., channels out, *size) at each position, row by row."""
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
        """Take over the bias."""
        if self.bias is not None:
            self.bias.copy_(like.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., channels in, *size) to (..., channels out, *size)."""
        return self.project(hidden, self.bias).movedim(-1, self.channels_at)

    @property
    def channels_at(self) -> int:
        """Which dimension of the images is that of the channels."""
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
        """Convolve as the plain layer does, with other filters."""
        padding = self.padding
        if self.padding_mode != "zeros":
            hidden, padding = (
                functional.pad(hidden, self._reversed_padding_repeated_twice, mode=self.padding_mode),
                (0,) * len(self.kernel_size),
            )
        _, function = PLAIN[len(self.kernel_size)]
        return function(hidden, filters, bias, self.stride, padding, self.dilation)

    def dense(self) -> Tensor:
        """Return the weight of the plain layer that this one stands for: (channels out, channels in, *kernel)."""
        return self.factorization().dense().view(-1, self.in_channels, *self.kernel_size)

    def plain(self) -> nn.Module:
        """Return the plain layer that this one stands for."""
        layer, _ = PLAIN[len(self.kernel_size)]
        plain = layer(**{name: getattr(self, name) for name in GEOMETRY}, bias=False, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.dense().detach()), self.bias
        return plain


class FactoredConvolution(LowRankMatrix, CompressedConvolution):
    """`basis` (rank, channels in x kernel) as filters, then `weight` (channels out, rank) at each position."""

    kind = "low_rank_conv"


class ClusteredConvolution(ClusteredMatrix, CompressedConvolution):
    """Output channels in clusters, each with filters of its own."""

    kind = "clustered_conv"


class SparseCodedConvolution(SparseCodedMatrix, CompressedConvolution):
    """Few numbers a channel, in a shared basis of filters or in none. Saves size, not time."""

    kind = "sparse_conv"


class SketchedConvolution(SketchedMatrix, CompressedConvolution):
    """A convolution of l k h w (channels in + channels out) trained numbers and a bias; base of the two that follow.

    Parameters
    ----------
    in_channels, out_channels, kernel_size
        As for the plain convolution; so are stride, padding, dilation, padding_mode, bias, device and dtype.
    sketch_size, repetitions, seed
        See `SketchedMatrix`.
    """

    dimensions: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        sketch_size: int,
        repetitions: int = 1,
        *,
        seed: int,
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        **others: Any,
    ) -> None:
        geometry = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        each: Any = {key: (v,) * self.dimensions if isinstance(v, int) else v for key, v in geometry.items()}
        sketches: dict[str, Any] = {"sketch_size": sketch_size, "repetitions": repetitions, "seed": seed}
        super().__init__(in_channels, out_channels, **each, **sketches, **others)
        self.reset_parameters()


class SketchedConv1d(SketchedConvolution):
    """`nn.Conv1d` from sketches; see `SketchedConvolution`."""

    kind = "sketched_conv1d"
    replaces = (nn.Conv1d,)
    dimensions = 1


class SketchedConv2d(SketchedConvolution):
    """`nn.Conv2d` from sketches; see `SketchedConvolution`."""

    kind = "sketched_conv2d"
    replaces = (nn.Conv2d,)
    dimensions = 2
