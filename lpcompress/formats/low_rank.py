"""Low rank: one subspace for all rows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.formats.base import Factorization
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.packing import CHUNK
from lpcompress.formats.sizes import Spec, positive_int


@dataclass(frozen=True)
class LowRank(Factorization):
    """The matrix `left @ right`: all rows lie in one subspace.

    Attributes
    ----------
    left : Tensor of shape (n, rank)
    right : Tensor of shape (rank, d)

    Examples
    --------
    >>> import torch
    >>> factors = LowRank(left=torch.tensor([[1.0], [2.0]]), right=torch.tensor([[3.0, 4.0, 5.0]]))
    >>> factors.shape, factors.ranks, factors.n_parameters
    ((2, 3), [1], 5)
    >>> factors.dense()
    tensor([[ 3.,  4.,  5.],
            [ 6.,  8., 10.]])
    """

    directions = "right"
    left: Tensor
    right: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def ranks(self) -> list[int]:
        """The rank, as the only entry."""
        return [self.right.shape[0]]

    @property
    def rows(self) -> list[int]:
        """n, as the only entry."""
        return [self.left.shape[0]]

    def dense(self) -> Tensor:
        """Return left @ right, shape (n, d)."""
        return self.left @ self.right

    def dense_parts(self) -> Iterator[Tensor]:
        """Yield the represented matrix, `CHUNK` rows at a time."""
        return (rows @ self.right for rows in self.left.split(CHUNK))

    def scale_rows(self, factors: Tensor) -> "LowRank":
        """Return a copy with the rows of `left` multiplied by `factors` (n,)."""
        return replace(self, left=self.left * factors.unsqueeze(1))


class LowRankMatrix(FactoredMatrix):
    """Stored as `codes` (n, rank) times `basis` (rank, d)."""

    prefix = "Factored"
    worth_multiplying = 0.8  # measured, 768 x 768 and 3,072 x 768, 32 and 2,048 inputs
    holds = LowRank
    fields: ClassVar = {"left": "codes", "right": "basis"}

    def allocate(self, rows: int, columns: int, *, rank: int, **where: Any) -> None:
        """Register both factors."""
        self.codes = nn.Parameter(torch.zeros(rows, rank, **where))
        self.basis = nn.Parameter(torch.zeros(rank, columns, **where))

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return the rank in `spec`."""
        return {"rank": positive_int(spec, "rank")}

    @classmethod
    def sizes_of(cls, factorization: LowRank) -> Spec:
        """Return the rank of `factorization`."""
        return {"rank": factorization.right.shape[0]}

    @property
    def right(self) -> Tensor:
        """`basis`, shape (rank, d)."""
        return self.basis

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map coordinates (..., rank) to (..., n): multiply by the transposed codes and add `bias` (n,)."""
        return functional.linear(coordinates, self.codes, bias)

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the rows `ids` (ids,) of the matrix, shape (ids, d)."""
        return functional.embedding(ids, self.codes) @ self.basis

    def shrink(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        self.codes.data = self.codes.data[:rows].clone()

    def grow(self, extra: int, mean_row: Tensor) -> None:
        """Append `extra` copies of the mean row, whose codes are the mean of all codes."""
        mean = self.codes.mean(0, dtype=torch.float32).to(self.codes.dtype)
        self.codes.data = torch.cat([self.codes.data, mean.expand(extra, -1)])
