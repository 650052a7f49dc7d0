"""The stored form of coded layers in a graph: integers of 4, 8 or more bits and the few operators that read them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lpcompress.formats.coded import Coded
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sizes import Spec
from lpcompress.nn.registry import derive, role_of

TABLES = ("pairs", "singles", "wide")
PAIR, BYTE = 16, 256  # codes that 4 and 8 bits can tell apart: -8 to 7, -128 to 127


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
    """Stored as integers: each row in the narrowest of `TABLES` that holds its codes.

    The tables are `pairs` (p, width / 2), two codes of 4 bits in a byte, `singles` (s, width), a byte each, and `wide`
    (n - p - s, width). Row i of the matrix is row `places[i]` of all three, one below the other; if a single table has
    all rows, there are no `places`.

    Products are those of the plain layer with a weight that the graph computes from constants. A runtime that folds
    constants therefore does so once, when it loads the graph. Every operator leaves a matrix of floats behind then, so
    that codes are read by one look-up in a list of 256 values instead of the arithmetic of `formats.coded.at_levels`.
    Rows are looked up as integers and then multiplied out.
    """

    prefix = "Integer"
    weight_name = "scales"
    right = None
    scales: Tensor
    levels: Tensor
    places: Tensor | None
    row_steps: Tensor
    vectors: Tensor | None
    values: Tensor

    def hold(self, coded: Coded) -> None:
        """Register the integers in `coded`, whose scales and levels this module has already."""
        held = coded.decoded
        low, high = (bounds.int() for bounds in held.codes.aminmax(dim=1))
        too_wide = [(low < -count // 2) | (high >= count // 2) for count in (PAIR, BYTE)]  # each (n,)
        kinds = torch.stack(too_wide).sum(0)
        order = kinds.argsort(stable=True)
        parts = held.codes[order].split(kinds.bincount(minlength=len(TABLES)).tolist())
        made = (pairs_of(parts[0]), (parts[1].int() + BYTE // 2).to(torch.uint8), parts[2])
        for name, table in zip(TABLES, made, strict=True):
            self.register_buffer(name, table if len(table) else None)
        self.register_buffer("places", None if len(kinds.unique()) == 1 else order.argsort().int())
        self.register_buffer("values", self.at_levels(torch.arange(BYTE) - BYTE // 2))
        self.register_buffer("row_steps", held.steps.to(torch.int8))
        self.register_buffer("vectors", held.basis)
        self.scales.data = self.scales.data.float()

    def sizes(self) -> Spec:
        """Return the rows of each table, for `repr`."""
        return {name: len(table) for name, table in self.tables()}

    def tables(self) -> list[tuple[str, Tensor]]:
        """Return the tables that there are, by name."""
        return [(name, getattr(self, name)) for name in TABLES if getattr(self, name) is not None]

    def read(self, name: str, rows: Tensor) -> Tensor:
        """Return the coordinates (m, width) that some rows of a table stand for."""
        if name == "wide":
            return self.at_levels(rows)
        values = self.values.unsqueeze(1)  # (256, 1)
        if name == "pairs":
            middle = self.values[(BYTE - PAIR) // 2 : (BYTE + PAIR) // 2]  # (16,)
            values = torch.stack([middle.repeat(PAIR), middle.repeat_interleave(PAIR)], dim=1)  # low bits, high bits
        return functional.embedding(rows.int(), values).flatten(1)[:, : len(self.scales)]

    def at_levels(self, codes: Tensor) -> Tensor:
        """Return what codes stand for, as `formats.coded.at_levels` does."""
        numbers, levels = codes.float(), self.levels.float()
        return numbers * levels[0] + numbers.clamp(-1.0, 1.0) * levels[1] + numbers.clamp(-2.0, 2.0) * levels[2]

    def multiplied_out(self, coordinates: Tensor, steps: Tensor) -> Tensor:
        """Return the rows (m, d) of coordinates (m, width) and steps (m,): see `Coded`."""
        coordinates = coordinates * torch.exp2(steps.float() / 4).unsqueeze(1)
        if self.vectors is None:
            return coordinates * self.scales
        return coordinates @ (self.vectors.float() * self.scales.unsqueeze(1))

    def all_rows(self) -> Tensor:
        """Return all rows that the codes stand for, shape (n, d); a padding row is none of them."""
        parts = [self.read(*each) for each in self.tables()]
        coordinates = parts[0] if self.places is None else torch.cat(parts).index_select(0, self.places)
        return self.multiplied_out(coordinates, self.row_steps)

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the rows `ids` (ids,) of the matrix, shape (ids, d)."""
        (first, table), *others = self.tables()
        places = ids if self.places is None else self.places.index_select(0, ids)
        last, start = len(table) - 1, len(table)
        found = self.read(first, table.index_select(0, places.clamp(max=last) if others else places))
        for name, table in others:
            rows = self.read(name, table.index_select(0, (places - start).clamp(0, len(table) - 1)))
            found = torch.where((places < start).unsqueeze(1), found, rows)
            start += len(table)
        return self.multiplied_out(found, self.row_steps.index_select(0, ids))

    def factorization(self) -> Expression:  # type: ignore[override]
        """Return the matrix as an expression, for `dense` of the roles."""
        return Expression(self.all_rows())

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (..., d) to (..., n): multiply by the transposed matrix and add `bias` (n,)."""
        return functional.linear(coordinates, self.all_rows(), bias)


def pairs_of(codes: Tensor) -> Tensor:
    """Return codes (n, w) from -8 to 7 as uint8 (n, w / 2, rounded up), the even columns in the lower bits.

    Examples
    --------
    >>> pairs_of(torch.tensor([[-8, -7, 7]]))
    tensor([[16, 15]], dtype=torch.uint8)
    """
    raised = functional.pad(codes.int() + PAIR // 2, (0, codes.shape[1] % 2))
    return (raised[:, ::2] + PAIR * raised[:, 1::2]).to(torch.uint8)


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
