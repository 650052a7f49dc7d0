"""One subspace for all rows: the container and the module that holds it."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.formats.base import Factorization
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sizes import Spec, positive_int


@dataclass(frozen=True)
class LowRank(Factorization):
    """A = left @ right: one subspace for all rows.

    Attributes
    ----------
    left : Tensor of shape (n, rank)
    right : Tensor of shape (rank, d)
    """

    kind: ClassVar[str] = "low_rank"
    left: Tensor
    right: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def ranks(self) -> list[int]:
        """The one rank."""
        return [self.right.shape[0]]

    @property
    def rows(self) -> list[int]:
        """All rows."""
        return [self.left.shape[0]]

    def dense(self) -> Tensor:
        """Return left @ right, shape (n, d)."""
        return self.left @ self.right

    def scale_rows(self, factors: Tensor) -> "LowRank":
        """Scale `left`."""
        return replace(self, left=self.left * factors.unsqueeze(1))


class LowRankMatrix(FactoredMatrix):
    """`weight` (n, rank) times `basis` (rank, d)."""

    holds = LowRank
    fields: ClassVar = {"left": "weight", "right": "basis"}

    def allocate(self, rows: int, columns: int, *, rank: int, **where: Any) -> None:
        """Register both factors."""
        self.weight = nn.Parameter(torch.zeros(rows, rank, **where))
        self.basis = nn.Parameter(torch.zeros(rank, columns, **where))

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return the rank."""
        return {"rank": positive_int(spec, "rank")}

    @classmethod
    def sizes_of(cls, factorization: LowRank) -> Spec:
        """Return the rank."""
        return {"rank": factorization.right.shape[0]}

    @property
    def right(self) -> Tensor:
        """The basis, shape (rank, d)."""
        return self.basis

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply by the transposed codes and add `bias` (n,): (..., rank) to (..., n)."""
        return functional.linear(coordinates, self.weight, bias)

    def look_up(self, ids: Tensor) -> Tensor:
        """Return factored rows, shape (ids, d), for flat `ids`."""
        return functional.embedding(ids, self.weight) @ self.basis

    def shrink(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        self.weight.data = self.weight.data[:rows].clone()

    def grow(self, extra: int, mean_row: Tensor) -> None:
        """Add `extra` rows with the mean row's codes, which are the mean of the codes."""
        mean = self.weight.mean(0, dtype=torch.float32).to(self.weight.dtype)
        self.weight.data = torch.cat([self.weight.data, mean.expand(extra, -1)])
