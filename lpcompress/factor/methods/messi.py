"""Projective clustering with subspaces of equal dimension (MESSI)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lpcompress.errors import UnsuitableError
from lpcompress.factor.clustered import Subspace, assemble, group_by_direction, squared_distances
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.methods.svd import svd
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import whitened
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.packing import index_dtype
from lpcompress.progress import Told, stretch, unheard

SAMPLE = 8192  # rows on which the starts are compared; the best one continues on all rows
ROUNDS = 20
TOLERANCE = 1e-3  # stop when a round lowers the cost by less than this share
OPEN_CLUSTERS = (2, 3, 5)  # tried, besides 1, if the number is not given


@dataclass(frozen=True)
class _Clustering:
    labels: Tensor  # (n,)
    subspaces: list[Subspace]
    cost: float  # sum of distance^q


@whitened
def messi(matrix: Tensor, budget: Budget, settings: Settings) -> Clustered | LowRank:
    """Cover the rows by k subspaces of equal dimension, by expectation maximisation from seeded starts.

    Minimises sum_i dist(a_i, nearest subspace)^q, q = `settings.distance_power`. For q < 2 every refit
    weights a row by dist^(q - 2) (iteratively reweighted least squares); changing the loss alone
    would change neither step.

    A start groups the rows by direction (spherical k-means). On word embeddings the descent ends at a lower error than
    from the paper's random partition: 4 % less at k = 5 on MiniLM's.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    budget : Budget
        Gives rank j = floor((bytes - offsets) / (item (n + k d))).
    settings : Settings
        `clusters` fixes k. By default 1, 2, 3 and 5 are tried and the least error is kept; 1 is the SVD,
        which is returned as a `LowRank`.

    Raises
    ------
    LpCompressError
        If not even rank 1 fits.

    References
    ----------
    Maalouf, Lang, Rus, Feldman, "Deep Learning Meets Projective Clustering", ICLR 2021, section 2.

    Examples
    --------
    >>> matrix = torch.block_diag(torch.ones(50, 1), torch.ones(50, 7))  # two subspaces of dimension 1
    >>> fitted = messi(matrix, Budget(n_bytes=960, item=4), Settings(clusters=2))
    >>> fitted.ranks, fitted.rows, bool(torch.allclose(fitted.dense(), matrix, atol=1e-5))
    ([1, 1], [50, 50], True)
    """
    if settings.clusters is not None:
        return _fit(matrix, settings.clusters, budget, settings)[0]
    fitted = [_fit(matrix, 1, budget, replace(settings, told=unheard))]
    for tried, clusters in enumerate(OPEN_CLUSTERS):
        if _rank(matrix.shape, clusters, budget) >= 1:
            told = stretch(settings.told, tried / len(OPEN_CLUSTERS), (tried + 1) / len(OPEN_CLUSTERS))
            fitted.append(_fit(matrix, clusters, budget, replace(settings, told=told)))
    return min(fitted, key=lambda candidate: candidate[1])[0]


def _fit(matrix: Tensor, clusters: int, budget: Budget, settings: Settings) -> tuple[Clustered | LowRank, float]:
    """Return the clustering for one k and its cost."""
    power = settings.distance_power
    if clusters == 1:
        single = svd(matrix, budget, settings)
        whole = Subspace(single.right.T, single.right.shape[0])
        return single, _cost(squared_distances(matrix, [whole])[:, 0], power)
    n = matrix.shape[0]
    if clusters > n:
        raise UnsuitableError(f"clusters must be at most the number of rows, {n:,}. Got {clusters:,}.")
    rank = _rank(matrix.shape, clusters, budget)
    if rank < 1:
        raise budget.too_small(_bytes(matrix.shape, clusters, 1, budget.item))
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(n, generator=generator).to(matrix.device)
    sample = matrix[order[: max(SAMPLE, 4 * clusters * rank)]] if n > 2 * SAMPLE else matrix
    runs = []
    for _ in range(settings.starts):
        labels = group_by_direction(sample, clusters, generator)
        runs.append(_descend(sample, labels, clusters, rank, power))
    best = min(runs, key=lambda run: run.cost)
    if sample is not matrix:
        labels = squared_distances(matrix, best.subspaces).argmin(dim=1)
        best = _descend(matrix, labels, clusters, rank, power, settings.told)
    return assemble(matrix, best.labels, [subspace.basis for subspace in best.subspaces]), best.cost


def _descend(
    matrix: Tensor, labels: Tensor, clusters: int, rank: int, power: float, told: Told = unheard
) -> _Clustering:
    """Alternate refit and reassignment until the cost settles; return the best round."""
    distances = matrix.new_ones(matrix.shape[0])
    best = _Clustering(labels, [], float("inf"))
    for done in range(ROUNDS):
        told(done / ROUNDS)
        labels = _repair(labels, distances, clusters, rank)
        subspaces = [_subspace(matrix, labels == c, distances, rank, power) for c in range(clusters)]
        squared, labels = squared_distances(matrix, subspaces).min(dim=1)
        distances = squared.sqrt()
        cost = _cost(squared, power)
        settled = cost > best.cost * (1 - TOLERANCE)
        if cost < best.cost:
            best = _Clustering(labels, subspaces, cost)
        if settled:
            break
    return best


def _cost(squared_distances: Tensor, power: float) -> float:
    return float(squared_distances.double().pow(power / 2).sum())


def _subspace(matrix: Tensor, members: Tensor, distances: Tensor, rank: int, power: float) -> Subspace:
    """Return the subspace that fits the members, reweighted for power < 2."""
    rows = matrix[members]
    if power < 2:
        floor = float(distances.mean()) * 1e-3 + torch.finfo(matrix.dtype).tiny
        rows = rows * distances[members].clamp_min(floor).pow(power / 2 - 1).unsqueeze(1)
    return Subspace(principal_axes(rows, matrix.dtype)[1].to(matrix.dtype), rank)


def _repair(labels: Tensor, distances: Tensor, clusters: int, rank: int) -> Tensor:
    """Fill clusters that have fewer rows than dimensions with the rows that fit worst elsewhere."""
    labels = labels.clone()
    for cluster in range(clusters):
        sizes = torch.bincount(labels, minlength=clusters)
        missing = rank - int(sizes[cluster])
        if missing > 0:
            movable = torch.where(sizes[labels] > rank, distances, -1.0)
            labels[movable.topk(missing).indices] = cluster
    return labels


def _bytes(shape: torch.Size, clusters: int, rank: int, item: int) -> int:
    """Return the bytes of codes, bases, offsets and the cluster table."""
    n, d = shape
    return item * rank * (n + clusters * d) + n * index_dtype(n * rank).itemsize + 16 * clusters


def _rank(shape: torch.Size, clusters: int, budget: Budget) -> int:
    """Return the rank that fits the budget, at most d and the mean number of rows per cluster."""
    n, d = shape
    left = budget.n_bytes - _bytes(shape, clusters, 0, budget.item)
    return min(left // (budget.item * (n + clusters * d)), d, n // clusters)
