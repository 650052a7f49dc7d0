"""Rate-distortion projective clustering: subspaces whose dimensions differ."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lpcompress.factor.clustered import assemble
from lpcompress.factor.factorization import Clustered, index_dtype
from lpcompress.factor.linalg import CHUNK, principal_axes
from lpcompress.factor.problem import Budget, Settings

SAMPLE = 8192  # rows on which starts and numbers of clusters are compared
OPEN_CLUSTERS = (4, 8, 16)
SAMPLE_ROUNDS = 6
ROUNDS = 8
TOLERANCE = 2e-3  # stop when a round lowers the residual by less than this share


@dataclass(frozen=True)
class _Model:
    labels: Tensor  # (n,), the clusters that the bases were fitted to
    bases: list[Tensor]  # (rank_c, d), orthonormal rows
    price: float  # mu: squared error that one stored number must save
    residual: float  # squared error that the bases leave


def adaptive(matrix: Tensor, budget: Budget, settings: Settings) -> Clustered:
    """Cover the rows by subspaces of different dimension, under a budget of stored numbers.

    Minimises sum_i dist(a_i, S_c(i))^2 + mu (sum_i rank_c(i) + d sum_c rank_c). Rows go to the cluster with
    the least dist^2 + mu rank; a cluster's rank is the number of eigenvalues of its Gram matrix above
    mu (n_c + d); mu is bisected so that the budget is met. Rows that weigh much thereby get many
    dimensions and pay for them with rows that do not.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
    settings : Settings
        `clusters` fixes their largest number. Left open, 4, 8 and 16 are compared on a sample of rows.

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
    most = settings.clusters or max(OPEN_CLUSTERS)
    numbers = (budget.n_bytes - n * index_dtype(matrix.numel()).itemsize - 16 * (most + 1)) // budget.item
    if numbers < n + d:
        raise budget.too_small(budget.item * (n + d) + 4 * n)
    generator = torch.Generator().manual_seed(settings.seed)
    size = SAMPLE if n > 2 * SAMPLE else n
    sample = matrix[torch.randperm(n, generator=generator)[:size].to(matrix.device)]
    share = size / n
    choices = (settings.clusters,) if settings.clusters else OPEN_CLUSTERS
    runs = []
    for clusters in choices:
        for start in (_by_size, _by_norm):
            labels = start(sample, min(clusters, size))
            runs.append(_descend(sample, labels, numbers * share, d * share, SAMPLE_ROUNDS))
    model = min(runs, key=lambda run: run.residual)
    best = _descend(matrix, _assign(matrix, model), numbers, d, ROUNDS)
    return assemble(matrix, best.labels, best.bases)


def _by_size(matrix: Tensor, clusters: int) -> Tensor:
    """Start with clusters whose sizes double, the longest rows in the smallest."""
    order = matrix.norm(dim=1).argsort(descending=True).argsort()
    ranks = (order + 1.0) / len(order) * (2.0**clusters - 1) + 1
    return ranks.log2().long().clamp(0, clusters - 1)


def _by_norm(matrix: Tensor, clusters: int) -> Tensor:
    """Start with clusters of equal size, by the length of the rows."""
    order = matrix.norm(dim=1).argsort(descending=True).argsort()
    return order * clusters // len(order)


def _descend(matrix: Tensor, labels: Tensor, numbers: float, basis_cost: float, rounds: int) -> _Model:
    """Alternate refit and reassignment until the residual settles."""
    clusters = int(labels.max()) + 1
    best = _refit(matrix, labels, clusters, numbers, basis_cost)
    for _ in range(rounds):
        model = _refit(matrix, _assign(matrix, best), clusters, numbers, basis_cost)
        if model.residual > best.residual * (1 - TOLERANCE):
            return min((best, model), key=lambda each: each.residual)
        best = model
    return best


def _refit(matrix: Tensor, labels: Tensor, clusters: int, numbers: float, basis_cost: float) -> _Model:
    """Choose mu, the ranks and the bases for fixed labels.

    One dimension of cluster c costs n_c + d numbers and saves its eigenvalue. Taking dimensions in
    the order of what a number saves, until the budget is spent, is the bisection of mu.
    """
    groups = [matrix[labels == cluster] for cluster in range(clusters)]
    spectra = [principal_axes(rows, matrix.dtype) for rows in groups if len(rows)]
    costs = [len(rows) + basis_cost for rows in groups if len(rows)]
    savings = torch.cat([values / cost for (values, _), cost in zip(spectra, costs, strict=True)])
    owners = torch.cat([torch.full((len(values),), c) for c, (values, _) in enumerate(spectra)]).to(labels.device)
    order = savings.argsort(descending=True, stable=True)
    spent = torch.tensor(costs, dtype=torch.float64, device=labels.device)[owners[order]].cumsum(0)
    taken = order[: int((spent <= numbers).sum())]
    ranks = torch.bincount(owners[taken], minlength=len(spectra)).tolist()
    price = float(savings[order[min(len(taken), len(order) - 1)]])
    bases = [axes[:, :rank].T.to(matrix.dtype).contiguous() for (_, axes), rank in zip(spectra, ranks, strict=True)]
    residual = sum(float(values[rank:].sum()) for (values, _), rank in zip(spectra, ranks, strict=True))
    return _Model(labels, bases, price, residual)


def _assign(matrix: Tensor, model: _Model) -> Tensor:
    """Return each row's cluster of least dist^2 + mu rank, shape (n,)."""
    penalty = matrix.new_tensor([model.price * len(basis) for basis in model.bases])
    labels = []
    for rows in matrix.split(CHUNK):
        kept = torch.stack([(rows @ basis.T).square().sum(dim=1) for basis in model.bases], dim=1)
        labels.append((penalty - kept).argmin(dim=1))  # ||a||^2 is the same for all clusters
    return torch.cat(labels)
