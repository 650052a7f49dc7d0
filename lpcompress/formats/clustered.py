"""Clustered: each row lies in the subspace of its cluster."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.errors import CheckpointError
from lpcompress.formats.base import Factorization
from lpcompress.formats.intervals import damage, labels_of, lengths_of, offsets_of, starts_of
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.packing import CHUNK, index_dtype
from lpcompress.formats.sizes import Spec, sizes


@dataclass(frozen=True)
class Clustered(Factorization):
    """Rows that each lie in the subspace of their cluster; clusters may differ in rank.

    Codes are stored cluster by cluster in one flat store, without padding. `offsets` holds the position of each row's
    first code, which also determines its cluster: cluster c owns the c-th interval of the store. At most one cluster
    has rank 0, and it is the last.

    Attributes
    ----------
    codes : Tensor of shape (sum_c rows_c * rank_c,)
    bases : Tensor of shape (sum_c rank_c, d)
        Bases of the clusters, stacked.
    offsets : integer Tensor of shape (n,)
        int32, or int64 if the store is longer than 2^31 - 1.
    clusters : int64 Tensor of shape (clusters, 2)
        (rank, rows) of each cluster.

    Examples
    --------
    Two clusters of rank 1: rows 0 and 2 are multiples of the first basis vector, row 1 of the second.

    >>> import torch
    >>> factors = Clustered(
    ...     codes=torch.tensor([1.0, 2.0, 3.0]),
    ...     bases=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     offsets=torch.tensor([0, 2, 1], dtype=torch.int32),
    ...     clusters=torch.tensor([[1, 2], [1, 1]]),
    ... )
    >>> factors.labels
    tensor([0, 1, 0])
    >>> factors.dense()
    tensor([[1., 0.],
            [0., 3.],
            [2., 0.]])
    """

    directions = "bases"
    codes: Tensor
    bases: Tensor
    offsets: Tensor
    clusters: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.offsets.shape[0], self.bases.shape[1]

    @property
    def ranks(self) -> list[int]:
        """Rank of each cluster."""
        return [int(rank) for rank in self.clusters[:, 0]]

    @property
    def rows(self) -> list[int]:
        """Number of rows of each cluster."""
        return [int(rows) for rows in self.clusters[:, 1]]

    @property
    def starts(self) -> Tensor:
        """Position of each cluster's first code in the store, shape (clusters,)."""
        return starts_of(self.clusters)

    @property
    def labels(self) -> Tensor:
        """Cluster of each row, shape (n,)."""
        return labels_of(self.offsets, self.starts)

    def dense(self) -> Tensor:
        """Return the represented matrix, shape (n, d), multiplied out cluster by cluster."""
        out = self.bases.new_zeros(self.shape)
        for rows, codes, basis in self.parts():
            for some, theirs in zip(rows.split(CHUNK), codes.split(CHUNK), strict=True):
                out[some] = theirs @ basis
        return out

    def parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield for each cluster its row numbers (rows,), codes (rows, rank) and basis (rank, d)."""
        order = torch.argsort(self.offsets, stable=True)  # rows in the order of their codes
        code_start = basis_start = row_start = 0
        for rank, rows in zip(self.ranks, self.rows, strict=True):
            codes = self.codes[code_start : code_start + rows * rank].view(rows, rank)
            yield order[row_start : row_start + rows], codes, self.bases[basis_start : basis_start + rank]
            code_start, basis_start, row_start = (
                code_start + rows * rank,
                basis_start + rank,
                row_start + rows,
            )

    def scale_rows(self, factors: Tensor) -> "Clustered":
        """Return a copy with the codes of row i multiplied by `factors[i]`."""
        scaled = [(codes * factors[rows].unsqueeze(1)).flatten() for rows, codes, _ in self.parts()]
        return replace(self, codes=torch.cat(scaled))


class ClusteredMatrix(FactoredMatrix):
    """Stored as codes in cluster bases: row i is `codes_i @ bases_c`, where c is the cluster of row i.

    `codes` (codes,) holds the codes cluster by cluster, `bases` (sum of ranks, d) the stacked bases, `offsets` (n,)
    the position of each row's first code, `clusters` (clusters, 2) the rank and number of rows of each cluster. If
    `ordered`, rows are numbered in the order in which their codes are stored.
    """

    prefix = "Clustered"
    worth_multiplying = 0.5  # measured with four clusters whose rows are not in order, as for low rank
    holds = Clustered
    fields: ClassVar = {"codes": "codes", "bases": "bases", "offsets": "offsets", "clusters": "clusters"}
    offsets: Tensor
    clusters: Tensor

    def allocate(
        self, rows: int, columns: int, *, ranks: list[int], members: list[int], ordered: bool = False, **where: Any
    ) -> None:
        """Register codes, bases and index, all zeros."""
        self.ranks, self.members, self.ordered = list(ranks), list(members), ordered
        device, stored = where.get("device"), sum(self.lengths)
        self.codes = nn.Parameter(torch.zeros(stored, **where))
        self.bases = nn.Parameter(torch.zeros(sum(ranks), columns, **where))
        self.register_buffer("offsets", torch.zeros(rows, dtype=index_dtype(stored), device=device))
        self.register_buffer("clusters", torch.zeros(len(ranks), 2, dtype=torch.int64, device=device))

    @property
    def lengths(self) -> list[int]:
        """Number of codes of each cluster."""
        return lengths_of(self.ranks, self.members)

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return rank and number of rows of each cluster, and whether rows are ordered."""
        ranks, rows = sizes(spec, "ranks"), sizes(spec, "rows")
        if len(ranks) != len(rows) or sum(rows) != spec["shape"][0] or 0 in ranks[:-1]:
            raise CheckpointError(
                f"'ranks' and 'rows' must be of equal length, 'rows' must add up to {spec['shape'][0]}, and only the"
                f" last rank may be 0. Got ranks {ranks} and rows {rows}."
            )
        return {"ranks": ranks, "members": rows, "ordered": spec.get("ordered") is True}

    @classmethod
    def sizes_of(cls, factorization: Clustered) -> Spec:
        """Return rank and number of rows of each cluster of `factorization`."""
        return {"ranks": factorization.ranks, "rows": factorization.rows}

    def sizes(self) -> Spec:
        """Return rank and number of rows of each cluster, from attributes because the buffers may be on `meta`."""
        sizes: Spec = {"ranks": list(self.ranks), "rows": list(self.members)}
        return sizes | ({"ordered": True} if self.ordered else {})

    @property
    def right(self) -> Tensor:
        """The stacked bases of all clusters, shape (sum of ranks, d)."""
        return self.bases

    def tables(self) -> list[Tensor]:
        """Return the codes of each cluster as a view of shape (rows, rank)."""
        parts = self.codes.split(self.lengths)
        return [part.view(rows, rank) for part, rows, rank in zip(parts, self.members, self.ranks, strict=True)]

    def places(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cluster of each row in `ids` (ids,) and its position in it, both int64 of shape (ids,)."""
        offsets, starts = self.offsets.index_select(0, ids).long(), starts_of(self.clusters)
        labels = labels_of(offsets, starts)
        places = (offsets - starts[labels]) // self.clusters[:, 0].clamp(min=1)[labels]
        return labels, places

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the rows `ids` (ids,) of the matrix, shape (ids, d)."""
        if torch.compiler.is_compiling():
            return self.look_up_wide(ids)
        labels, places = self.places(ids)
        order = labels.argsort()
        counts = labels.bincount(minlength=len(self.ranks)).tolist()
        parts = [
            functional.embedding(chosen, table) @ basis
            for chosen, table, basis in zip(
                places[order].split(counts), self.tables(), self.bases.split(self.ranks), strict=True
            )
            if chosen.numel()
        ]
        if not parts:
            return self.bases.new_zeros(0, self.bases.shape[1])
        rows = torch.cat(parts)  # (ids, d), cluster by cluster
        return torch.empty_like(rows).index_copy(0, order, rows)

    def look_up_wide(self, ids: Tensor) -> Tensor:
        """Do the same without data-dependent shapes: each row gets codes in all bases, most of them zero."""
        labels, _ = self.places(ids)
        ranks = self.clusters[:, 0]
        first = (ranks.cumsum(0) - ranks)[labels]  # (ids,): index of the first vector of the row's basis
        column = torch.arange(self.bases.shape[0], device=ids.device) - first.unsqueeze(-1)  # (ids, sum of ranks)
        used = (column >= 0) & (column < ranks[labels].unsqueeze(-1))
        spots = (self.offsets.index_select(0, ids).long().unsqueeze(-1) + column).where(used, 0)
        codes = self.codes.index_select(0, spots.view(-1)).view(spots.shape)
        return codes.where(used, 0) @ self.bases

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map coordinates (..., sum of ranks) to (..., n), cluster by cluster, and add `bias` (n,)."""
        order = None if self.ordered else self.offsets.argsort(stable=True)  # rows in stored order
        biases: list[Tensor | None] = [None] * len(self.ranks)
        if bias is not None:
            biases = list((bias if order is None else bias[order]).split(self.members))
        flat = coordinates.reshape(-1, coordinates.shape[-1])
        parts = [
            functional.linear(theirs, table, its_bias)
            for theirs, table, its_bias in zip(flat.split(self.ranks, dim=1), self.tables(), biases, strict=True)
        ]
        out = torch.cat(parts, dim=1)  # (tokens, n)
        if order is not None:
            out = out.index_select(1, order.argsort())
        return out.view(*coordinates.shape[:-1], out.shape[1])

    def check(self, name: str) -> None:
        """Raise CheckpointError if a number is not finite, or a row lacks its own codes in its cluster."""
        super().check(name)
        for what in damage(self.offsets, self.clusters, self.ranks, self.members, self.ordered):
            self.require(False, name, what)

    def shrink(self, rows: int) -> None:
        """Keep the first `rows` rows and all bases."""
        labels, places = self.places(torch.arange(rows, device=self.offsets.device))
        kept = [labels == cluster for cluster in range(len(self.ranks))]
        self.store([table[places[rows]] for table, rows in zip(self.tables(), kept, strict=True)], kept)

    def grow(self, extra: int, mean_row: Tensor) -> None:
        """Append `extra` rows to the cluster of largest rank: the least-squares codes of the mean row."""
        widest = self.ranks.index(max(self.ranks))
        basis = self.bases.split(self.ranks)[widest].float()
        mean = torch.linalg.lstsq(basis.T, mean_row.unsqueeze(-1)).solution.squeeze(-1)  # (rank,)
        labels, places = self.places(self.row_ids())
        known = len(labels)
        labels = functional.pad(labels, (0, extra), value=widest)
        kept = [labels == cluster for cluster in range(len(self.ranks))]
        tables = [table[places[rows[:known]]] for table, rows in zip(self.tables(), kept, strict=True)]
        tables[widest] = torch.cat([tables[widest], mean.to(self.codes.dtype).expand(extra, -1)])
        self.store(tables, kept)

    def store(self, tables: list[Tensor], members: list[Tensor]) -> None:
        """Replace codes and index.

        Parameters
        ----------
        tables : list of Tensor of shape (rows, rank)
            The codes of each cluster.
        members : list of bool Tensor of shape (n,)
            Mask of the rows of each cluster, in the order of its table.
        """
        self.members = [table.shape[0] for table in tables]
        self.codes.data = torch.cat([table.reshape(-1) for table in tables])
        self.offsets = offsets_of(self.ranks, members)
        self.clusters = torch.tensor(list(zip(self.ranks, self.members, strict=True)), device=self.offsets.device)
