"""Rate-distortion projective clustering: subspaces whose dimensions differ."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lpcompress.factor.clustered import Subspace, assemble, group_by_direction, squared_distances
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import whitened
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.packing import index_dtype

DIRECTIONS = 4  # largest number of direction groups in the start
ROUNDS = 12
TOLERANCE = 1e-3  # stop when a round lowers the residual by less than this share
FEW, MANY, MANY_BELOW = 8, 16, 0.3
"""Default numbers of clusters: few, or many below this share of bytes kept. Small subspaces have small bases, so that
more of them pay off; clusters that do not pay off lose all their rows."""


@whitened
def adaptive(matrix: Tensor, budget: Budget, settings: Settings) -> Clustered:
    """Cover the rows by subspaces of different dimension, under a budget of stored numbers.

    Minimises sum_i dist(a_i, S_c(i))^2 + mu (sum_i rank_c(i) + d sum_c rank_c). A row is assigned to
    the cluster with the least dist^2 + mu rank; a cluster's rank is the number of eigenvalues of its Gram
    matrix above mu (n_c + d); the multiplier mu is the one that meets the budget. Rows of large weight
    thereby get many dimensions, at the expense of the other rows.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
    settings : Settings
        `clusters` is their largest number; by default 8, or 16 if less than 30 % of the bytes are kept.
        `seed` draws the initial centres of the starting groups.

    Raises
    ------
    LpCompressError
        If not even one dimension fits.

    Notes
    -----
    Our own method. The Lagrangian is that of reverse water-filling for a mixture of Gaussian sources (Cover and Thomas,
    "Elements of Information Theory", section 10.3.3), with dimensions in place of bits.

    Examples
    --------
    >>> matrix = torch.block_diag(torch.eye(4).repeat(10, 1), torch.ones(200, 12))  # dimensions 4 and 1
    >>> fitted = adaptive(matrix, Budget(n_bytes=3000, item=4), Settings(clusters=2))
    >>> fitted.ranks, fitted.rows, bool(torch.allclose(fitted.dense(), matrix, atol=1e-5))
    ([4, 1], [40, 200], True)
    """
    n, d = matrix.shape
    share = budget.n_bytes / (matrix.numel() * budget.item)
    clusters = min(settings.clusters or (MANY if share < MANY_BELOW else FEW), n)
    table = n * index_dtype(matrix.numel()).itemsize + 16 * (clusters + 1)
    numbers = (budget.n_bytes - table) // budget.item
    if numbers < n + d:
        raise budget.too_small(budget.item * (n + d) + table)
    generator = torch.Generator().manual_seed(settings.seed)
    best = _refit(matrix, _first_labels(matrix, clusters, generator), clusters, numbers)
    for _ in range(ROUNDS if clusters > 1 else 0):
        model = _refit(matrix, _assign(matrix, best), clusters, numbers)
        settled = model.residual > best.residual * (1 - TOLERANCE)
        best = min((best, model), key=lambda each: each.residual)
        if settled:
            break
    return assemble(matrix, best.labels, [subspace.basis for subspace in best.subspaces])


@dataclass(frozen=True)
class _Model:
    labels: Tensor  # (n,), the clusters that the subspaces were fitted to
    subspaces: list[Subspace]
    price: float  # mu: squared error that one stored number must remove
    residual: float  # squared error that the subspaces leave


def _first_labels(matrix: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Group the rows by direction, so that subspaces differ, and by length, so that ranks differ."""
    groups = max(g for g in range(1, DIRECTIONS + 1) if g == 1 or (clusters % g == 0 and clusters >= 2 * g))
    parts = clusters // groups
    return group_by_direction(matrix, groups, generator) * parts + _cut_by_length(matrix, parts)


def _cut_by_length(matrix: Tensor, parts: int) -> Tensor:
    """Split the rows by length into parts of equal sum of 1 / length^3, so that short rows form many small parts.

    If the budget covers all the dimensions that rows need, short rows are those that need fewer.
    """
    lengths = torch.linalg.vector_norm(matrix, dim=1).double()
    order = lengths.argsort()
    smallest = torch.finfo(lengths.dtype).tiny ** 0.25  # its inverse cube is finite
    floor = 0.1 * float(lengths.median()) + smallest  # else a single row of zeros would dominate the sum
    shares = lengths[order].clamp_min(floor).pow(-3).cumsum(0)
    labels = torch.empty_like(order)
    labels[order] = (shares / shares[-1] * parts).long().clamp_max(parts - 1)
    return labels


def _assign(matrix: Tensor, model: _Model) -> Tensor:
    """Return each row's cluster of least dist^2 + mu rank, shape (n,)."""
    ranks = matrix.new_tensor([subspace.rank for subspace in model.subspaces])
    return (squared_distances(matrix, model.subspaces) + model.price * ranks).argmin(dim=1)


def _refit(matrix: Tensor, labels: Tensor, clusters: int, numbers: float) -> _Model:
    """Choose mu, the ranks and the bases for fixed labels.

    One dimension of cluster c costs n_c + d numbers and removes its eigenvalue from the squared error.
    Taking dimensions in descending order of eigenvalue per number, until the budget is spent, is
    equivalent to a bisection of mu.
    """
    sizes = torch.bincount(labels, minlength=clusters).tolist()
    spectra = [principal_axes(matrix[labels == c], matrix.dtype) for c in range(clusters) if sizes[c]]
    costs = [size + matrix.shape[1] for size in sizes if size]
    savings = torch.cat([values / cost for (values, _), cost in zip(spectra, costs, strict=True)])
    owners = torch.cat([torch.full_like(values, c).long() for c, (values, _) in enumerate(spectra)])
    order = savings.argsort(descending=True, stable=True)
    spent = savings.new_tensor(costs)[owners[order]].cumsum(0)
    taken = order[spent <= numbers]
    ranks = torch.bincount(owners[taken], minlength=len(spectra)).tolist()
    price = float(savings[order[min(len(taken), len(order) - 1)]])
    subspaces = [Subspace(axes.to(matrix.dtype), rank) for (_, axes), rank in zip(spectra, ranks, strict=True)]
    residual = sum(float(values[rank:].sum()) for (values, _), rank in zip(spectra, ranks, strict=True))
    used = torch.tensor([c for c in range(clusters) if sizes[c]], device=labels.device)
    return _Model(torch.searchsorted(used, labels), subspaces, price, residual)
