"""What `messi` and `adaptive` share: from labels and bases to a `Clustered`, and its least-squares refit."""

import torch
from torch import Tensor

from lpcompress.factor.factorization import Clustered, index_dtype
from lpcompress.factor.linalg import principal_axes


def assemble(matrix: Tensor, labels: Tensor, bases: list[Tensor]) -> Clustered:
    """Code every row in the basis of its cluster.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,)
        Values in [0, len(bases)).
    bases : list of Tensor of shape (rank_c, d)
        Orthonormal rows. Clusters without rows are dropped; those of rank 0 become one.
    """
    groups = [(torch.nonzero(labels == c).squeeze(1), basis) for c, basis in enumerate(bases)]
    kept = [(rows, basis) for rows, basis in groups if len(rows) and len(basis)]
    empty = [rows for rows, basis in groups if len(rows) and not len(basis)]
    if empty:  # last, so that a row's offset alone tells its cluster
        kept.append((torch.cat(empty), matrix.new_zeros(0, matrix.shape[1])))
    codes = [(matrix[rows] @ basis.T).flatten() for rows, basis in kept]
    store = torch.cat(codes)
    offsets = torch.empty(matrix.shape[0], dtype=index_dtype(len(store)), device=matrix.device)
    start = 0
    for rows, basis in kept:
        positions = torch.arange(len(rows), device=matrix.device) * len(basis) + start
        offsets[rows] = positions.to(offsets.dtype)
        start += len(rows) * len(basis)
    clusters = torch.tensor([[len(basis), len(rows)] for rows, basis in kept], device=matrix.device)
    return Clustered(store, torch.cat([basis for _, basis in kept]), offsets, clusters)


def refit(target: Tensor, previous: Clustered) -> Clustered:
    """Fit each cluster's subspace to its rows anew, with the same rows and rank."""
    labels, bases = previous.labels, []
    for cluster, rank in enumerate(previous.ranks):
        _, axes = principal_axes(target[labels == cluster], target.dtype)
        bases.append(axes[:, :rank].T.to(target.dtype).contiguous())
    return assemble(target, labels, bases)
