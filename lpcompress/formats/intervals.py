"""The index of `Clustered`: in which cluster each row is, and where its codes stand in the store.

The codes of cluster c are one interval of the store, rows one after the other. `offsets` (n,) says where the codes of
each row begin; `clusters` (clusters, 2) has rank and rows of each cluster.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from lpcompress.formats.packing import index_dtype


def starts_of(clusters: Tensor) -> Tensor:
    """Return where each cluster's interval begins, shape (clusters,)."""
    sizes = clusters.prod(dim=1)
    return sizes.cumsum(0) - sizes


def labels_of(offsets: Tensor, starts: Tensor) -> Tensor:
    """Return the cluster of each row, shape of `offsets`.

    Examples
    --------
    >>> labels_of(torch.tensor([0, 4, 2]), torch.tensor([0, 4]))
    tensor([0, 1, 0])
    """
    return torch.bucketize(offsets.to(starts.dtype), starts, right=True) - 1


def lengths_of(ranks: Sequence[int], members: Sequence[int]) -> list[int]:
    """Return the number of codes of each cluster, given its rank and its number of rows."""
    return [rank * rows for rank, rows in zip(ranks, members, strict=True)]


def offsets_of(ranks: Sequence[int], members: Sequence[Tensor]) -> Tensor:
    """Return where each row's codes begin, shape (n,), if each cluster has its rows in their order.

    Parameters
    ----------
    ranks : sequence of int
    members : sequence of bool Tensor of shape (n,)
        Which rows are in each cluster.
    """
    lengths = lengths_of(ranks, [int(rows.sum()) for rows in members])
    offsets = torch.zeros_like(members[0], dtype=index_dtype(sum(lengths)))
    for start, rank, rows in zip(accumulate(lengths, initial=0), ranks, members, strict=False):
        places = torch.arange(int(rows.sum()), device=offsets.device)
        offsets[rows] = (start + rank * places).to(offsets.dtype)
    return offsets


def damage(
    offsets: Tensor, clusters: Tensor, ranks: Sequence[int], members: Sequence[int], ordered: bool
) -> Iterator[str]:
    """Say what must hold and does not, if the index is not one of clusters of these ranks and numbers of rows.

    Yields
    ------
    str
        A sentence without its full stop.
    """
    table = [[rank, rows] for rank, rows in zip(ranks, members, strict=True)]
    if clusters.tolist() != table:
        yield f"'clusters' must be {table}. Got {clusters.tolist()}"
    starts = accumulate(lengths_of(ranks, members), initial=0)
    expected = torch.cat(
        [
            start + rank * torch.arange(rows, device=offsets.device)
            for start, rank, rows in zip(starts, ranks, members, strict=False)
        ]
    )
    if not torch.equal(offsets.long().sort().values, expected):
        yield "'offsets' must give every row codes of its own inside its cluster"
    if ordered and bool((offsets.diff() < 0).any()):
        yield "'offsets' must be in order"
