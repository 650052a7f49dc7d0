"""Classes of the pairs of form and role that need code of their own.

All other pairs are derived in `nn.registry`.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lpcompress.formats.clustered import ClusteredMatrix
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sketched import SketchedMatrix
from lpcompress.nn.convolution import CompressedConvolution
from lpcompress.nn.linear import CompressedLinear


class ClusteredLinear(ClusteredMatrix, CompressedLinear):
    """Linear layer whose outputs are clustered, each cluster with its own basis.

    y_c = codes_c (bases_c x), then restored to the order of the outputs.

    Examples
    --------
    >>> from lpcompress.nn import build
    >>> spec = {"kind": "clustered_linear", "shape": [6, 4], "ranks": [2, 1], "rows": [4, 2]}
    >>> [(name, tuple(tensor.shape)) for name, tensor in build(spec, like=nn.Linear(4, 6)).named_parameters()]
    [('codes', (10,)), ('bases', (3, 4)), ('bias', (6,))]
    """

    kind = "clustered_linear"

    @torch.no_grad()
    def sort_outputs(self) -> Tensor:
        """Reorder the outputs by cluster, in place, which saves a permutation in each call.

        Returns
        -------
        int64 Tensor of shape (n,)
            Former index of each output. The next layer must take its inputs in this order.
        """
        order = self.offsets.argsort(stable=True)
        self.offsets.copy_(self.offsets[order])
        if self.bias is not None:
            self.bias.copy_(self.bias[order])
        self.ordered = True
        return order


class SketchedLinear(SketchedMatrix, CompressedLinear):
    """Linear layer made of two random sketches: l k (d_in + d_out) trainable numbers, and a bias.

    Parameters
    ----------
    in_features, out_features : int
    sketch_size : int
        k, rows of one sketch.
    repetitions : int, default=1
        l, number of sketches that are averaged.
    seed : int
        Seed of signs and initial values, 0 to 2^40. Give each layer of a network a different one.
    others
        bias, device, dtype: as for `torch.nn.Linear`.

    Raises
    ------
    LpCompressError
        If the seed is out of range.

    References
    ----------
    Kasiviswanathan, Narodytska, Jin, "Network Approximation using Tensor Sketching", IJCAI 2018: SK-FC.

    Examples
    --------
    >>> layer = SketchedLinear(64, 32, sketch_size=4, seed=0)
    >>> layer(torch.randn(3, 64)).shape
    torch.Size([3, 32])
    >>> sum(parameter.numel() for parameter in layer.parameters())  # 4 * (64 + 32) + 32
    416
    """

    kind = "sketched_linear"

    def __init__(
        self, in_features: int, out_features: int, sketch_size: int, repetitions: int = 1, *, seed: int, **others: Any
    ) -> None:
        sketches: dict[str, Any] = {"sketch_size": sketch_size, "repetitions": repetitions, "seed": seed}
        super().__init__(in_features, out_features, **sketches, **others)
        self.reset_parameters()


class SketchedConvolution(SketchedMatrix, CompressedConvolution):
    """Convolution made of two random sketches: l k h w (channels in + channels out) trainable numbers, and a bias.

    Base of `SketchedConv1d` and `SketchedConv2d`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size
        As for the plain convolution; so are stride, padding, dilation, padding_mode, bias, device and dtype.
    sketch_size : int
        k, rows of one sketch.
    repetitions : int, default=1
        l, number of sketches that are averaged.
    seed : int
        Seed of signs and initial values, 0 to 2^40. Give each layer of a network a different one.

    References
    ----------
    Kasiviswanathan, Narodytska, Jin, "Network Approximation using Tensor Sketching", IJCAI 2018: SK-CONV.
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
    """`nn.Conv1d` made of two random sketches; the parameters are those of `SketchedConvolution`.

    Examples
    --------
    >>> layer = SketchedConv1d(16, 8, kernel_size=3, sketch_size=2, seed=0, padding=1)
    >>> layer(torch.randn(1, 16, 10)).shape
    torch.Size([1, 8, 10])
    """

    kind = "sketched_conv1d"
    replaces = (nn.Conv1d,)
    dimensions = 1


class SketchedConv2d(SketchedConvolution):
    """`nn.Conv2d` made of two random sketches; the parameters are those of `SketchedConvolution`.

    Examples
    --------
    >>> layer = SketchedConv2d(16, 8, kernel_size=3, sketch_size=2, seed=0, padding=1)
    >>> layer(torch.randn(1, 16, 10, 10)).shape
    torch.Size([1, 8, 10, 10])
    """

    kind = "sketched_conv2d"
    replaces = (nn.Conv2d,)
    dimensions = 2


PAIRS: tuple[type[FactoredMatrix], ...] = (ClusteredLinear, SketchedLinear, SketchedConv1d, SketchedConv2d)
