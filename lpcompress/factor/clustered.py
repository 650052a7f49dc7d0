"""Shared by `messi` and `adaptive`: starts, distances, a `Clustered` from labels and bases, its least-squares refit."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lpcompress.factor.linalg import principal_axes, project_rows
from lpcompress.factor.problem import Budget
from lpcompress.factor.robust import project, refit
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.packing import CHUNK, index_dtype

SAMPLE = 8192  # rows from which the starting groups are computed
START_ROUNDS = 8


@dataclass(frozen=True)
class Subspace:
    """The span of the first `rank` principal axes of a cluster.

    Attributes
    ----------
    axes : Tensor of shape (d, m)
        Orthonormal columns by descending eigenvalue; m = d, or the number of rows if the cluster has fewer than d.
    rank : int
    """

    axes: Tensor
    rank: int

    @property
    def basis(self) -> Tensor:
        """Orthonormal rows that span the subspace, (rank, d)."""
        return self.axes[:, : self.rank].T.contiguous()

    def squared_distances(self, rows: Tensor) -> Tensor:
        """Return dist(row, subspace)^2, shape (rows,), from the axes inside or outside, whichever are fewer."""
        d, known = self.axes.shape
        if known == d and 2 * self.rank > d:
            return (rows @ self.axes[:, self.rank :]).square().sum(dim=1)
        inside = (rows @ self.axes[:, : self.rank]).square().sum(dim=1)
        return (rows.square().sum(dim=1) - inside).clamp_min(0)


def squared_distances(matrix: Tensor, subspaces: list[Subspace]) -> Tensor:
    """Return the squared distance of every row to every subspace, shape (n, len(subspaces))."""
    chunks = matrix.split(CHUNK)
    return torch.cat([torch.stack([each.squared_distances(rows) for each in subspaces], dim=1) for rows in chunks])


def group_by_direction(matrix: Tensor, groups: int, generator: torch.Generator) -> Tensor:
    """Group the rows by direction: spherical k-means from seeded centres, on a sample of the rows.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    groups : int
        At most n.
    generator : torch.Generator

    Returns
    -------
    int64 Tensor of shape (n,)
        Values in [0, groups); a group may be empty.
    """
    order = torch.randperm(len(matrix), generator=generator)[: max(SAMPLE, groups)]
    sample = functional.normalize(matrix[order.to(matrix.device)], dim=1)
    centres = sample[:groups]
    for _ in range(START_ROUNDS):
        members = functional.one_hot((sample @ centres.T).argmax(dim=1), groups).to(sample.dtype)  # (rows, groups)
        centres = functional.normalize(members.T @ sample, dim=1)
    return torch.cat([(rows @ centres.T).argmax(dim=1) for rows in matrix.split(CHUNK)])


def assemble(matrix: Tensor, labels: Tensor, bases: list[Tensor]) -> Clustered:
    """Code every row in the basis of its cluster.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,)
        Values in [0, len(bases)).
    bases : list of Tensor of shape (rank_c, d)
        Orthonormal rows. Clusters without rows are dropped; those of rank 0 are merged into one.
    """
    groups = [(torch.nonzero(labels == c).squeeze(1), basis) for c, basis in enumerate(bases)]
    kept = [(rows, basis) for rows, basis in groups if len(rows) and len(basis)]
    empty = [rows for rows, basis in groups if len(rows) and not len(basis)]
    if empty:  # last, so that a row's offset alone determines its cluster
        kept.append((torch.cat(empty), matrix.new_zeros(0, matrix.shape[1])))
    length = sum(len(rows) * len(basis) for rows, basis in kept)
    store = matrix.new_empty(length)
    offsets = torch.empty(matrix.shape[0], dtype=index_dtype(length), device=matrix.device)
    start = 0
    for rows, basis in kept:
        offsets[rows] = (torch.arange(len(rows), device=matrix.device) * len(basis) + start).to(offsets.dtype)
        for part in rows.split(CHUNK):
            stop = start + len(part) * len(basis)
            torch.mm(matrix[part], basis.T, out=store[start:stop].view(len(part), len(basis)))
            start = stop
    clusters = torch.tensor([[len(basis), len(rows)] for rows, basis in kept], device=matrix.device)
    return Clustered(store, torch.cat([basis for _, basis in kept]), offsets, clusters)


@refit.register
def _refit(like: Clustered, target: Tensor, budget: Budget) -> Clustered:
    """Refit the subspace of each cluster, with the same rows and rank."""
    labels, bases = like.labels, []
    for cluster, rank in enumerate(like.ranks):
        _, axes = principal_axes(target[labels == cluster], target.dtype)
        bases.append(axes[:, :rank].T.to(target.dtype).contiguous())
    return assemble(target, labels, bases)


@project.register
def _project(like: Clustered, target: Tensor, budget: Budget) -> None:
    """Overwrite the rows of each cluster with their projection onto the best-fitting subspace of the same rank."""
    labels = like.labels
    for cluster, rank in enumerate(like.ranks):
        members = torch.nonzero(labels == cluster).squeeze(1)
        rows = target[members]
        axes = principal_axes(rows, target.dtype)[1].to(target.dtype)
        target[members] = project_rows(rows, axes, rank)
