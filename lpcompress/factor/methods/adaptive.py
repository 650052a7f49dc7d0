"""Rate-distortion projective clustering: subspaces whose dimensions differ."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lpcompress.factor.clustered import Subspace, assemble, group_by_direction, squared_distances
from lpcompress.factor.moving_rows import MovingRows
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.whitening import whitened
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.packing import CHUNK, index_dtype
from lpcompress.progress import Told, stretch

DIRECTIONS = 4  # largest number of direction groups in the start
SWEEPS, LIGHT = 3, 2  # most rounds with all rows, and rounds after each with rows near a border only
NEAR = 8  # of these rows, for each row that moved in the round before
START, AGAIN = 0.3, 0.3  # shares of the work: of the start, and of what a sweep leaves to later ones
AHEAD = 0.7  # of the last move is added once more in these rounds: as a rule rows go on moving the same way
TOLERANCE = 5e-3  # stop when a sweep lowers the residual by less than this share
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
    Our own method. Rows and subspaces are chosen in turn. Most rounds only look at rows near a border between clusters,
    and fit the subspaces to where the rows are going: about half as many rounds reach the same error, at a quarter of
    the distances.

    The Lagrangian is that of reverse water-filling for a mixture of Gaussian sources (Cover and Thomas,
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
    # one process draws the start: a different rounding on another machine would lead the processes apart
    ((labels,),) = settings.crew.share([1], lambda _: (_first_labels(matrix, clusters, generator),))
    rows = MovingRows(matrix, labels, clusters, settings.crew)
    best = _fit(rows, numbers)
    for sweep in range(SWEEPS if clusters > 1 else 0):
        told = stretch(settings.told, *(1 - (1 - START) * AGAIN**begun for begun in (sweep, sweep + 1)))
        _sweep(rows, best, numbers, told)
        model = _fit(rows, numbers)
        settled = model.residual > best.residual * (1 - TOLERANCE)
        best = min((best, model), key=lambda each: each.residual)
        if settled:
            break
    bases = [matrix.new_zeros(0, d)] * clusters
    for cluster, subspace in zip(best.clusters, best.subspaces, strict=True):
        bases[cluster] = subspace.basis
    return assemble(matrix, best.labels, bases)


@dataclass(frozen=True)
class _Model:
    labels: Tensor  # (n,), the clusters that the subspaces were fitted to
    clusters: list[int]  # those that have rows
    subspaces: list[Subspace]  # of these
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


def _sweep(rows: MovingRows, model: _Model, numbers: float, told: Told) -> None:
    """Assign all rows, then a few times those that are nearest to a border between clusters."""
    every = torch.arange(len(rows.matrix), device=rows.matrix.device)
    told(0)
    labels, gaps = _nearest(rows, every, model)
    moved = rows.move(every, labels)
    for light in range(LIGHT):
        told((1 + light) / (2 + LIGHT))
        model = _fit(rows, numbers, AHEAD)
        near = gaps.topk(min(NEAR * moved, len(gaps)), largest=False).indices.sort().values
        labels, gaps[near] = _nearest(rows, near, model)
        moved = rows.move(near, labels)
    told((1 + LIGHT) / (2 + LIGHT))


def _nearest(rows: MovingRows, some: Tensor, model: _Model) -> tuple[Tensor, Tensor]:
    """Return some rows' clusters of least dist^2 + mu rank, and how much more the next ones cost, over length^2."""
    parts = some.split(CHUNK)
    prices = model.price * rows.matrix.new_tensor([subspace.rank for subspace in model.subspaces])

    def work(number: int) -> tuple[Tensor, ...]:
        part = rows.matrix[parts[number]]
        least, places = (squared_distances(part, model.subspaces) + prices).topk(min(2, len(prices)), largest=False)
        lengths = torch.linalg.vector_norm(part, dim=1).clamp_min(torch.finfo(part.dtype).tiny ** 0.5)
        return places[:, 0], (least[:, -1] - least[:, 0]) / lengths.square()

    places, gaps = (torch.cat(each) for each in zip(*rows.crew.share([len(part) for part in parts], work), strict=True))
    return torch.tensor(model.clusters, device=places.device)[places], gaps


def _fit(rows: MovingRows, numbers: float, ahead: float | None = None) -> _Model:
    """Choose mu, the ranks and the bases for the clusters of rows, or for those that `ahead` foresees.

    One dimension of cluster c costs n_c + d numbers and removes its eigenvalue from the squared error.
    Taking dimensions in descending order of eigenvalue per number, until the budget is spent, is
    equivalent to a bisection of mu.
    """
    spectra = rows.spectra(ahead)
    costs = [each.size + rows.matrix.shape[1] for each in spectra]
    savings = torch.cat([each.values / cost for each, cost in zip(spectra, costs, strict=True)])
    owners = torch.cat([torch.full_like(each.values, place).long() for place, each in enumerate(spectra)])
    order = savings.argsort(descending=True, stable=True)
    spent = savings.new_tensor(costs)[owners[order]].cumsum(0)
    taken = order[spent <= numbers]
    ranks = torch.bincount(owners[taken], minlength=len(spectra)).tolist()
    return _Model(
        rows.labels,
        clusters=[each.cluster for each in spectra],
        subspaces=[Subspace(each.axes, rank) for each, rank in zip(spectra, ranks, strict=True)],
        price=float(savings[order[min(len(taken), len(order) - 1)]]),
        residual=sum(float(each.values[rank:].sum()) for each, rank in zip(spectra, ranks, strict=True)),
    )
