"""Drop-in replacements of bare three-dimensional weights that a model multiplies by `torch.einsum` (XLNet's attention).

There is no layer to replace, so the parameter itself is: by a module that torch takes for a tensor
(`__torch_function__`), multiplies by its factors in the product that the model asks for, and is multiplied out first
in any other function.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lpcompress.errors import LpCompressError
from lpcompress.formats.clustered import ClusteredMatrix
from lpcompress.formats.low_rank import LowRankMatrix
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sizes import Spec, read_shape
from lpcompress.formats.sketched import SketchedMatrix
from lpcompress.formats.sparse import SparseCodedMatrix

INTO_HEADS, FROM_HEADS = "ibh,hnd->ibnd", "ibnd,hnd->ibh"


class BareWeight(nn.Module):
    """A parameter of shape (width, heads, size of a head), seen as the plain layer that it stands for.

    Attributes
    ----------
    weight : Parameter
        The model's own.
    equation : str
        `INTO_HEADS` or `FROM_HEADS`.
    """

    def __init__(self, weight: nn.Parameter, equation: str) -> None:
        super().__init__()
        self.weight, self.equation = weight, equation


class CompressedBareWeight(FactoredMatrix):
    """A bare weight whose matrix (outputs, inputs) is held as a factorization."""

    role = "linear"
    replaces = (BareWeight,)
    _is_hf_initialized: ClassVar = True  # the model's own initialisation must not write into what is multiplied out

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
    def dtype(self) -> torch.dtype:
        """As a tensor's; the model casts its inputs to it."""
        return self.weight.dtype

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        width, heads, size = self.shape
        return (heads * size, width) if self.equation == INTO_HEADS else (width, heads * size)

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise unless `like` is a bare weight."""
        if type(like) is not BareWeight:
            raise LpCompressError(f"there must be a bare weight. Got {type(like).__name__}.")

    @staticmethod
    def matrix_of(like: BareWeight) -> Tensor:
        """Return the weight as (outputs, inputs)."""
        matrix = like.weight.flatten(1)
        return matrix.T if like.equation == INTO_HEADS else matrix

    @staticmethod
    def inputs_of(like: BareWeight, hidden: Tensor) -> Tensor:
        """Return `hidden` (i, b, inputs) or (i, b, heads, size of a head) row by row."""
        return hidden.flatten(0, 1).flatten(1)

    @staticmethod
    def outputs_of(like: BareWeight, output: Tensor) -> Tensor:
        """Return `output` (i, b, heads, size of a head) or (i, b, outputs) row by row."""
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
        """There is nothing beside the matrix."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Do what `torch.einsum(self.equation, hidden, weight)` does."""
        if self.equation == INTO_HEADS:
            return self.project(hidden).unflatten(-1, self.shape[1:])
        return self.project(hidden.flatten(-2))

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Act as the weight in a torch function."""
        match args:
            case (str(equation), Tensor() as hidden, CompressedBareWeight() as weight):
                if function is torch.einsum and equation == weight.equation:
                    return weight(hidden)
        named = {key: _multiplied_out(value) for key, value in (kwargs or {}).items()}
        return function(*map(_multiplied_out, args), **named)

    def dense(self) -> Tensor:
        """Return the weight that this one stands for: (width, heads, size of a head)."""
        matrix = self.factorization().dense()
        return (matrix.T if self.equation == INTO_HEADS else matrix).reshape(self.shape)

    def plain(self) -> BareWeight:
        """Return the weight that this one stands for."""
        return BareWeight(nn.Parameter(self.dense().detach()), self.equation)


def _multiplied_out(value: Any) -> Any:
    return value.dense() if isinstance(value, CompressedBareWeight) else value


class FactoredBareWeight(LowRankMatrix, CompressedBareWeight):
    """`weight` (outputs, rank) times `basis` (rank, inputs)."""

    kind = "low_rank_einsum"


class ClusteredBareWeight(ClusteredMatrix, CompressedBareWeight):
    """Outputs in clusters, each with a subspace of its own."""

    kind = "clustered_einsum"


class SparseCodedBareWeight(SparseCodedMatrix, CompressedBareWeight):
    """Few numbers an output, in a shared basis or in none."""

    kind = "sparse_einsum"


class SketchedBareWeight(SketchedMatrix, CompressedBareWeight):
    """Two sketches of the weight, to be trained."""

    kind = "sketched_einsum"
