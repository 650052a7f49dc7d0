"""Base class of the factorizations that the methods return."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factorization:
    """A matrix of shape (n, d) stored as a few tensors.

    Each stored form is a frozen dataclass derived from this class. It implements `shape`, `ranks`, `rows`, `dense` and
    `scale_rows`, and names the field of its basis vectors in `directions`. Stored numbers and bytes follow from the
    fields.

    Examples
    --------
    >>> from lpcompress.factor import LowRank
    >>> factors = LowRank(left=torch.ones(3, 1), right=torch.ones(1, 4))
    >>> factors.n_parameters, factors.n_bytes, factors.to(torch.float16).n_bytes
    (7, 28, 14)
    """

    directions: ClassVar[str | None] = None
    """Name of the field whose rows span the row space; multiplying it by T on the right multiplies the matrix by T.
    None for a form without such a field."""

    def tensors(self) -> dict[str, Tensor]:
        """Return every stored tensor by its field name."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}

    @property
    def n_parameters(self) -> int:
        """Number of stored floating-point numbers."""
        return sum(t.numel() for t in self.tensors().values() if t.is_floating_point())

    @property
    def n_bytes(self) -> int:
        """Stored bytes: numbers, indices, masks and offsets."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (n, d) of the represented matrix."""
        raise NotImplementedError

    @property
    def ranks(self) -> list[int]:
        """Dimension of each subspace (for sparse codes: of the one shared basis)."""
        raise NotImplementedError

    @property
    def rows(self) -> list[int]:
        """Number of rows in each subspace."""
        raise NotImplementedError

    def dense(self) -> Tensor:
        """Return the represented matrix, shape (n, d), in the dtype of the factors."""
        raise NotImplementedError

    def dense_parts(self) -> Iterator[Tensor]:
        """Yield the represented matrix some rows at a time, so that a large one is never in memory as a whole."""
        yield self.dense()

    def scale_rows(self, factors: Tensor) -> Self:
        """Return the factorization of the matrix with row i multiplied by `factors[i]`.

        Only the codes change, because scaling a row leaves it in its subspace.

        Parameters
        ----------
        factors : Tensor of shape (n,)
        """
        raise NotImplementedError

    def to(self, dtype: torch.dtype) -> Self:
        """Return a copy whose floating-point tensors have the given dtype and are contiguous."""
        changed = {k: t.to(dtype).contiguous() for k, t in self.tensors().items() if t.is_floating_point()}
        return replace(self, **changed)
