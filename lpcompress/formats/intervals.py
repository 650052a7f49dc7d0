"""The index of `Clustered`: the cluster of each row, and the position of the row's codes in the store.

The codes of cluster c are one interval of the store, row after row. `offsets` (n,) holds the position of each row's
first code; `clusters` (clusters, 2) holds the rank and the number of rows of each cluster.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from lpcompress.formats.packing import index_dtype


def starts_of(clusters: Tensor) -> Tensor:
    """Return the position at which each cluster's interval begins, shape (clusters,)."""
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
    """Return the position of each row's first code, shape (n,), with each cluster's rows stored in ascending order.

    Parameters
    ----------
    ranks : sequence of int
    members : sequence of bool Tensor of shape (n,)
        Mask of the rows of each cluster.
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
    """Yield the conditions that the index of a damaged checkpoint violates.

    Parameters
    ----------
    offsets : integer Tensor of shape (n,)
    clusters : integer Tensor of shape (clusters, 2)
    ranks, members : sequence of int
        Expected rank and number of rows of each cluster.
    ordered : bool
        Whether rows must be numbered in the order in which their codes are stored.

    Yields
    ------
    str
        A condition, as a sentence without the full stop.
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
        yield "'offsets' must give each row its own codes in its cluster"
    if ordered and bool((offsets.diff() < 0).any()):
        yield "'offsets' must be in ascending order"
