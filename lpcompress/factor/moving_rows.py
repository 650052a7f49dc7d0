"""Rows that move between clusters, and principal axes of the clusters that follow them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lpcompress.factor.crew import ALONE, Crew
from lpcompress.factor.linalg import axes_of, gram, principal_axes

EIGENVECTORS = 60  # times d rows: as long as all rounds' eigenvectors of a cluster take, in products of the first


@dataclass(frozen=True)
class Spectrum:
    """The rows of one cluster, as far as their subspaces are concerned.

    Attributes
    ----------
    cluster : int
    size : float
        Number of rows.
    values : float64 Tensor of shape (m,)
        Eigenvalues of the Gram matrix, descending; m = d, or the number of rows if the cluster has fewer than d.
    axes : Tensor of shape (d, m)
        Their eigenvectors.
    """

    cluster: int
    size: float
    values: Tensor
    axes: Tensor


class MovingRows:
    """Rows in clusters. Few of them move at a time, and Gram matrices are changed by those that do.

    Products are in float64. In float32, a long row that leaves a cluster would leave rounding errors behind that exceed
    short rows.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    labels : int64 Tensor of shape (n,)
        Cluster of each row, in [0, clusters).
    clusters : int
    crew : Crew, optional
        Processes that share the clusters.

    Examples
    --------
    >>> rows = MovingRows(torch.tensor([[2.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]), clusters=2)
    >>> [float(each.values) for each in rows.spectra()]
    [5.0, 9.0]
    >>> rows.move(torch.tensor([1]), torch.tensor([1]))
    1
    >>> [float(each.values) for each in rows.spectra()]
    [4.0, 10.0]
    """

    def __init__(self, matrix: Tensor, labels: Tensor, clusters: int, crew: Crew = ALONE) -> None:
        self.matrix, self.labels, self.crew = matrix, labels, crew
        sizes = torch.bincount(labels, minlength=clusters).tolist()
        self._costs = [size and size + EIGENVECTORS * matrix.shape[1] for size in sizes]
        self._before, self._moved = labels, labels.new_empty(0)  # the last move: clusters before it, and which rows
        self._followed: dict[int, _Followed] = {}  # of the clusters that this process was dealt

    def move(self, rows: Tensor, labels: Tensor) -> int:
        """Move rows (m,) to the clusters `labels` (m,); return how many were elsewhere."""
        self._before, self.labels = self.labels, self.labels.index_copy(0, rows, labels)
        self._moved = rows[self._before[rows] != labels]
        return len(self._moved)

    def spectra(self, ahead: float | None = None) -> list[Spectrum]:
        """Return the spectra of all clusters that have rows.

        Parameters
        ----------
        ahead : float, optional
            Share of the last move that is added once more. Such spectra are a guess, so that they are computed in the
            precision of the matrix instead of float64.
        """
        sizes = torch.bincount(self.labels, minlength=len(self._costs)).tolist()

        def work(cluster: int) -> tuple[Tensor, ...]:
            return self._spectrum(cluster, sizes[cluster], ahead) if sizes[cluster] else ()

        found = list(self.crew.share(self._costs, work))
        self._moved = self._moved[:0]
        return [Spectrum(cluster, float(each[0]), *each[1:]) for cluster, each in enumerate(found) if each]

    def _spectrum(self, cluster: int, size: int, ahead: float | None) -> tuple[Tensor, ...]:
        """Return size, values and axes of one cluster, from the smaller of its two Gram matrices."""
        members, dtype = self.labels == cluster, self.matrix.dtype
        if size < self.matrix.shape[1]:
            self._followed.pop(cluster, None)
            values, axes = principal_axes(self.matrix[members])
            return torch.tensor(float(size)), values, axes.to(dtype)
        known = self._followed.get(cluster)
        if known is None:
            known = _Followed(gram(self.matrix[members]))
        else:
            came, left = (self._moved[each[self._moved] == cluster] for each in (self.labels, self._before))
            change = gram(self.matrix[came]) - gram(self.matrix[left])
            known = _Followed(known.gram + change, change, len(came) - len(left))
        self._followed[cluster] = known
        values, axes = axes_of(known.gram if ahead is None else (known.gram + ahead * known.change).to(dtype))
        return torch.tensor(max(size + (ahead or 0) * known.growth, 1.0)), values.double(), axes.to(dtype)


@dataclass(frozen=True)
class _Followed:
    gram: Tensor  # float64 (d, d)
    change: Tensor | float = 0.0  # by the last move
    growth: int = 0  # rows that came less those that left
