"""Rate-distortion projective clustering: subspaces whose dimensions differ."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lpcompress.factor.clustered import Subspace, assemble, group_by_direction, squared_distances
from lpcompress.factor.curves import fitted_curve
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import whitened
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.packing import index_dtype

DIRECTIONS = 4  # most groups by direction in the start
ROUNDS = 12
TOLERANCE = 1e-3  # stop when a round lowers the residual by less than this share
FEW, MANY, MANY_BELOW = 8, 16, 0.3
"""Clusters when the user leaves the number open: many below this share of kept numbers. Small subspaces have
small bases, so that more of them pay; clusters that do not pay lose their rows by themselves."""


@whitened
def adaptive(matrix: Tensor, budget: Budget, settings: Settings) -> Clustered:
    """Cover the rows by subspaces of different dimension, under a budget of stored numbers.

    Minimises sum_i dist(a_i, S_c(i))^2 + mu (sum_i rank_c(i) + d sum_c rank_c). Rows go to the cluster with
    the least dist^2 + mu rank; a cluster's rank is the number of eigenvalues of its Gram matrix above
    mu (n_c + d); mu is whatever meets the budget. Rows that weigh much thereby get many dimensions and
    pay for them with rows that do not.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
    settings : Settings
        `clusters` fixes their largest number; left open, 8, or 16 where little is kept. `seed` draws the
        centres from which the starting groups grow.

    Raises
    ------
    LpCompressError
        If not even one dimension fits.

    Notes
    -----
    Ours. The Lagrangian is that of reverse water-filling for a mixture of Gaussian sources (Cover and Thomas,
    "Elements of Information Theory", section 10.3.3), with dimensions in the place of bits.
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


adaptive_curve = fitted_curve(adaptive)


@dataclass(frozen=True)
class _Model:
    labels: Tensor  # (n,), the clusters that the subspaces were fitted to
    subspaces: list[Subspace]
    price: float  # mu: squared error that one stored number must save
    residual: float  # squared error that the subspaces leave


def _first_labels(matrix: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Group the rows by direction, so that subspaces differ, times length, so that ranks do."""
    groups = max(g for g in range(1, DIRECTIONS + 1) if g == 1 or (clusters % g == 0 and clusters >= 2 * g))
    parts = clusters // groups
    return group_by_direction(matrix, groups, generator) * parts + _cut_by_length(matrix, parts)


def _cut_by_length(matrix: Tensor, parts: int) -> Tensor:
    """Cut the rows, by length, into parts of equal sum of 1 / length^3: the short rows into many small ones.

    Where every row gets all the dimensions it wants, the short ones are those that do with fewer.
    """
    lengths = torch.linalg.vector_norm(matrix, dim=1).double()
    order = lengths.argsort()
    smallest = torch.finfo(lengths.dtype).tiny ** 0.25  # whose cube has an inverse
    floor = 0.1 * float(lengths.median()) + smallest  # or one row of zeros were all the sum
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

    One dimension of cluster c costs n_c + d numbers and saves its eigenvalue. Taking dimensions in
    the order of what a number saves, until the budget is spent, is the bisection of mu.
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
