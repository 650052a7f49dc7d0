"""The stored form of coded layers in a graph: integers of one or two bytes and the few operators that read them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lpcompress.formats.coded import Coded
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sizes import Spec
from lpcompress.nn.registry import derive, role_of


@dataclass(frozen=True)
class Expression:
    """What stands in for a factorization while a graph is recorded.

    Attributes
    ----------
    matrix : Tensor of shape (n, d)
        The result of recorded operators.
    """

    matrix: Tensor

    def dense(self) -> Tensor:
        """Return the matrix."""
        return self.matrix


class IntegerMatrix(FactoredMatrix):
    """Stored as integers: columns whose codes fit a byte in `narrow` (n, k), the others in `wide` (n, width - k).

    Products are those of the plain layer with a weight that the graph computes from constants. A runtime that folds
    constants therefore does so once, when it loads the graph. Rows are looked up as integers and then multiplied out.
    """

    prefix = "Integer"
    weight_name = "scales"
    right = None
    scales: Tensor
    levels: Tensor
    narrow: Tensor
    wide: Tensor | None
    row_steps: Tensor
    vectors: Tensor | None
    places: Tensor | None

    def hold(self, coded: Coded) -> None:
        """Register the integers in `coded`, whose scales and levels this module has already."""
        held = coded.decoded
        low, high = held.codes.aminmax(dim=0)
        fits = (low >= -128) & (high <= 127)  # (width,)
        order = torch.cat([fits.nonzero().flatten(), (~fits).nonzero().flatten()])
        codes = held.codes[:, order]
        count = int(fits.sum())
        self.register_buffer("narrow", codes[:, :count].to(torch.int8))
        self.register_buffer("wide", codes[:, count:].contiguous() if count < len(order) else None)
        self.register_buffer("row_steps", held.steps.to(torch.int8))
        self.register_buffer("vectors", None if held.basis is None else held.basis[order])
        self.scales.data = self.scales.data[order].float()
        moved = held.basis is None and count < len(order)
        self.register_buffer("places", order.argsort() if moved else None)

    def sizes(self) -> Spec:
        """Return how many columns are narrow, for `repr`."""
        return {"narrow": self.narrow.shape[1], "width": self.scales.shape[0]}

    def multiplied_out(self, narrow: Tensor, wide: Tensor | None, steps: Tensor) -> Tensor:
        """Return the rows (m, d) that codes (m, k) and (m, width - k), and steps (m,), stand for: see `Coded`."""
        parts = [self.at_levels(part) for part in (narrow, wide) if part is not None]
        coordinates = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)  # (m, width)
        coordinates = coordinates * torch.exp2(steps.float() / 4).unsqueeze(1)
        if self.vectors is not None:
            return coordinates @ (self.vectors.float() * self.scales.unsqueeze(1))
        rows = coordinates * self.scales
        return rows if self.places is None else rows.index_select(1, self.places)

    def at_levels(self, codes: Tensor) -> Tensor:
        """Return what codes stand for, as `formats.coded.at_levels` does."""
        numbers, levels = codes.float(), self.levels.float()
        return numbers * levels[0] + numbers.clamp(-1.0, 1.0) * levels[1] + numbers.clamp(-2.0, 2.0) * levels[2]

    def all_rows(self) -> Tensor:
        """Return all rows that the codes stand for, shape (n, d); a padding row is none of them."""
        return self.multiplied_out(self.narrow, self.wide, self.row_steps)

    def factorization(self) -> Expression:  # type: ignore[override]
        """Return the matrix as an expression, for `dense` of the roles."""
        return Expression(self.all_rows())

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the rows `ids` (ids,) of the matrix, shape (ids, d)."""
        wide = None if self.wide is None else self.wide.index_select(0, ids)
        return self.multiplied_out(self.narrow.index_select(0, ids), wide, self.row_steps.index_select(0, ids))

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (..., d) to (..., n): multiply by the transposed matrix and add `bias` (n,)."""
        return functional.linear(coordinates, self.all_rows(), bias)


def store_as_integers(layer: FactoredMatrix) -> None:
    """Make a coded layer an `IntegerMatrix` in the same role, in place; its stream is dropped.

    The object stays the same, so that what is tied to it, and its bias or padding row, need no care. It can no longer
    be saved in a checkpoint.

    Examples
    --------
    >>> from torch import nn
    >>> from lpcompress import factorize
    >>> from lpcompress.nn import from_factorization
    >>> plain = nn.Linear(64, 256)
    >>> layer = from_factorization(factorize(plain.weight, "coded", ratio=0.9), like=plain)
    >>> hidden = torch.randn(2, 64)
    >>> before = layer(hidden)
    >>> store_as_integers(layer)
    >>> type(layer).__name__, torch.allclose(layer(hidden), before, atol=1e-5)
    ('IntegerLinear', True)
    """
    coded, role = layer.factorization(), role_of(layer)
    changed: Any = layer
    if not isinstance(coded, Coded) or role is None:
        raise TypeError(f"the layer must be coded. Got {type(layer).__name__}.")
    changed.__class__ = derive("integers", IntegerMatrix, role)
    del changed.stream
    changed.hold(coded)
