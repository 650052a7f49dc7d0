"""Drop-in replacements of `nn.Linear` and of transformers' `Conv1D`, which is a linear layer stored transposed."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lpcompress.errors import LpCompressError
from lpcompress.formats.clustered import ClusteredMatrix
from lpcompress.formats.low_rank import LowRankMatrix
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sizes import Spec, read_shape
from lpcompress.formats.sketched import SketchedMatrix
from lpcompress.formats.sparse import SparseCodedMatrix


class CompressedLinear(FactoredMatrix, nn.Linear):
    """A linear layer whose (d_out, d_in) matrix is held as a factorization.

    `in_features` and `out_features` stay those of the plain layer. `transposed` says that the plain layer is a
    `Conv1D`, whose weight is (d_in, d_out).
    """

    role = "linear"
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
        nn.Module.__init__(self)  # not nn.Linear's, which would allocate the matrix
        self.in_features, self.out_features, self.transposed = in_features, out_features, transposed
        self.allocate(out_features, in_features, **sizes, device=device, dtype=dtype)
        zeros = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", zeros)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        return self.out_features, self.in_features

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise if `like` does more than a matrix product."""
        if type(like) not in CompressedLinear.replaces:
            raise LpCompressError(f"the layer must be a plain torch.nn.Linear. Got {type(like).__name__}.")

    @staticmethod
    def matrix_of(like: nn.Module) -> Tensor:
        """Return the weight as (outputs, inputs)."""
        return like.weight.T if isinstance(like, Conv1D) else like.weight  # type: ignore[return-value]

    @staticmethod
    def inputs_of(like: nn.Module, hidden: Tensor) -> Tensor:
        """Return `hidden` (..., inputs) row by row."""
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
        """Take over the bias."""
        if self.bias is not None:
            self.bias.copy_(like.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., d_in) to (..., d_out)."""
        return self.project(hidden, self.bias)

    def dense(self) -> Tensor:
        """Return the weight of the plain layer that this one stands for: (d_out, d_in), or transposed as it was."""
        matrix = self.factorization().dense()
        return matrix.T.contiguous() if self.transposed else matrix

    def plain(self) -> nn.Module:
        """Return the plain layer that this one stands for."""
        plain: Any
        if self.transposed:
            plain = Conv1D(self.out_features, 0)
            plain.nx = self.in_features
        else:
            plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.dense().detach()), self.bias
        return plain


class FactoredLinear(LowRankMatrix, CompressedLinear):
    """y = weight (basis x) + bias, with `weight` (d_out, rank) and `basis` (rank, d_in)."""

    kind = "low_rank_linear"


class ClusteredLinear(ClusteredMatrix, CompressedLinear):
    """Outputs in clusters, each with a subspace of its own: y_c = codes_c (bases_c x), put back in their order."""

    kind = "clustered_linear"

    @torch.no_grad()
    def sort_outputs(self) -> Tensor:
        """Leave the outputs in the order of the clusters; return which former output stands where, shape (n,).

        What follows must take its inputs in that order.
        """
        order = self.offsets.argsort(stable=True)
        self.offsets.copy_(self.offsets[order])
        if self.bias is not None:
            self.bias.copy_(self.bias[order])
        self.ordered = True
        return order


class SparseCodedLinear(SparseCodedMatrix, CompressedLinear):
    """Few numbers an output, in a shared basis or in none. Saves size, not time: codes are unpacked for each call."""

    kind = "sparse_linear"


class SketchedLinear(SketchedMatrix, CompressedLinear):
    """A linear layer of l k (d_in + d_out) trained numbers and a bias.

    Parameters
    ----------
    in_features, out_features : int
    sketch_size, repetitions, seed
        See `SketchedMatrix`.
    others
        bias, device, dtype: as for `torch.nn.Linear`.
    """

    kind = "sketched_linear"

    def __init__(
        self, in_features: int, out_features: int, sketch_size: int, repetitions: int = 1, *, seed: int, **others: Any
    ) -> None:
        sketches: dict[str, Any] = {"sketch_size": sketch_size, "repetitions": repetitions, "seed": seed}
        super().__init__(in_features, out_features, **sketches, **others)
        self.reset_parameters()
