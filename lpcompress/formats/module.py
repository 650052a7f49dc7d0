"""What all compressed layers share.

Every layer is a *structure*, which knows how a matrix is stored and multiplied (`low_rank`, `clustered`, `sparse`),
and a *role*, which knows what the plain layer does with its matrix (`embedding`, `linear`, `convolution`).
"""

from collections.abc import Callable
from math import prod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lpcompress.errors import CheckpointError
from lpcompress.formats.base import Factorization
from lpcompress.formats.sizes import Spec


class FactoredMatrix(nn.Module):
    """A layer whose (n, d) matrix is held as a factorization and never built.

    Structures name their codes `weight`, so that a loader without this package fails on the size
    instead of running a random layer.
    """

    kind: ClassVar[str]  # in config.json
    role: ClassVar[str]  # in reports
    holds: ClassVar[type[Factorization]]
    replaces: ClassVar[tuple[type[nn.Module], ...]]
    fields: ClassVar[dict[str, str]]  # field of the factorization -> name in the module
    weight: Tensor

    # what a role says

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(n, d)."""
        raise NotImplementedError

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise if `like` does more than its matrix says, so that a replacement would change the model."""
        raise NotImplementedError

    @staticmethod
    def matrix_of(like: Any) -> Tensor:
        """Return the weight of a plain layer as a matrix of shape (n, d), without a copy."""
        raise NotImplementedError

    @staticmethod
    def inputs_of(like: Any, hidden: Tensor) -> Tensor:
        """Return what the matrix of a plain layer is multiplied by when the layer is given `hidden`: (products, d)."""
        raise NotImplementedError

    @staticmethod
    def outputs_of(like: Any, output: Tensor) -> Tensor:
        """Return what a plain layer returns, product by product: (products, n)."""
        return output.flatten(0, -2)

    @classmethod
    def from_spec(cls, spec: Spec, like: Any) -> Self:
        """Build an empty module of the sizes in `spec`, on the device and in the dtype of `like`."""
        raise NotImplementedError

    def keep(self, like: Any) -> None:
        """Take over what `like` has beside its matrix."""
        raise NotImplementedError

    def dense(self) -> Tensor:
        """Return the weight of the plain layer that this one stands for, in its own shape."""
        raise NotImplementedError

    def plain(self) -> Any:
        """Return the plain layer that this one stands for."""
        raise NotImplementedError

    # what a structure says

    def allocate(self, *shape: Any, **sizes: Any) -> None:
        """Register empty tensors for a matrix of `shape`: rows, columns."""
        raise NotImplementedError

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return the sizes that `allocate` needs, read from `spec` and validated."""
        raise NotImplementedError

    def sizes(self) -> Spec:
        """Return those sizes of this module."""
        return self.sizes_of(self.factorization())

    @classmethod
    def sizes_of(cls, factorization: Any) -> Spec:
        """Return the sizes of the module that holds `factorization`."""
        raise NotImplementedError

    @property
    def right(self) -> Tensor | None:
        """All basis vectors, shape (width, d); None if codes stand for the columns themselves."""
        raise NotImplementedError

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply by the transposed codes and add `bias` (n,): (..., width) to (..., n)."""
        raise NotImplementedError

    def look_up(self, ids: Tensor) -> Tensor:
        """Return factored rows, shape (ids, d), for flat `ids`."""
        raise NotImplementedError

    def shrink(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        raise NotImplementedError

    def grow(self, extra: int, mean_row: Tensor) -> None:
        """Add `extra` rows that are as near to `mean_row` (d,) as the structure can say."""
        raise NotImplementedError

    # what follows

    def factorization(self) -> Factorization:
        """Return this module's own tensors (not copies) as a factorization."""
        return self.holds(**{field: getattr(self, name) for field, name in self.fields.items()})

    def spec(self) -> Spec:
        """Return the sizes from which `from_spec` rebuilds this module."""
        return {"kind": self.kind, "shape": list(self.matrix_shape), **self.sizes()}

    @torch.no_grad()
    def fill(self, factorization: Factorization, like: nn.Module) -> None:
        """Take over the numbers of `factorization`, and what else `like` has."""
        for field, tensor in factorization.tensors().items():
            getattr(self, self.fields[field]).copy_(tensor)
        self.keep(like)
        self.train(like.training)

    def project(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply by the transposed factored matrix and add `bias` (n,): (..., d) to (..., n)."""
        right = self.right
        return self.expand(hidden if right is None else self.analyse(hidden, right), bias)

    def analyse(self, hidden: Tensor, basis: Tensor) -> Tensor:
        """Multiply by the transposed `basis` (width, d): (..., d) to (..., width)."""
        return functional.linear(hidden, basis)

    def row_ids(self) -> Tensor:
        """Return 0 to n - 1."""
        return torch.arange(self.matrix_shape[0], device=self.weight.device)

    def check(self, name: str) -> None:
        """Raise CheckpointError if the numbers cannot be those of a factorization of these sizes."""
        for leaf, tensor in self.state_dict(keep_vars=True).items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"{name}.{leaf} holds values that are not finite: the checkpoint is damaged."
                    " Compress the model again."
                )

    def require(self, condition: Tensor | bool, name: str, what: str) -> None:
        """Raise the CheckpointError of `check` unless `condition` holds."""
        if not bool(condition):
            raise CheckpointError(f"{name}: {what}. The checkpoint is damaged; compress the model again.")

    def extra_repr(self) -> str:
        """Show the sizes."""
        return ", ".join(f"{key}={value}" for key, value in self.spec().items() if value is not None)


def window_of(layer: nn.Module) -> int:
    """Return the number of places that a convolution's window has; 1 for other layers."""
    return prod(getattr(layer, "kernel_size", ()))


def recomputed(operation: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Apply an operation that draws nothing, keeping `inputs` alone for the backward pass, which applies it again."""
    if not torch.is_grad_enabled():
        return operation(*inputs)
    return checkpoint(operation, *inputs, use_reentrant=False, preserve_rng_state=False)
