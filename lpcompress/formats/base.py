"""The base of the containers that every method returns: a matrix as codes times a basis."""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factorization:
    """Base of the containers: sizes and counts that follow from the fields alone."""

    kind: ClassVar[str]

    def tensors(self) -> dict[str, Tensor]:
        """Return every stored tensor by its field name."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}

    @property
    def n_parameters(self) -> int:
        """Stored floating-point numbers."""
        return sum(t.numel() for t in self.tensors().values() if t.is_floating_point())

    @property
    def n_bytes(self) -> int:
        """Stored bytes: numbers, indices, masks and offsets."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d) of the matrix that is represented."""
        raise NotImplementedError

    @property
    def ranks(self) -> list[int]:
        """Dimension of each subspace (of each shared basis, for sparse codes)."""
        raise NotImplementedError

    @property
    def rows(self) -> list[int]:
        """Number of rows in each subspace."""
        raise NotImplementedError

    def dense(self) -> Tensor:
        """Multiply out: the (n, d) matrix that is represented, in the dtype of the factors."""
        raise NotImplementedError

    def scale_rows(self, factors: Tensor) -> Self:
        """Return the factorization of the matrix whose row i is `factors[i]` times as long.

        Only the codes change: scaling rows leaves every subspace where it is.
        """
        raise NotImplementedError

    def to(self, dtype: torch.dtype) -> Self:
        """Return a copy with contiguous floating-point tensors of another dtype."""
        changed = {k: t.to(dtype).contiguous() for k, t in self.tensors().items() if t.is_floating_point()}
        return replace(self, **changed)
