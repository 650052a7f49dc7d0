"""Allocation of a budget of bytes to layers, given the loss of each layer at each size."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from lpcompress.errors import BudgetError


@dataclass(frozen=True)
class Curve:
    """Loss of a layer as a piecewise linear function of its size.

    Attributes
    ----------
    sizes : tuple of int
        Bytes, ascending.
    losses : tuple of float
        Share of the energy of the layer that is lost at each size.

    Examples
    --------
    >>> curve = Curve.through([(10, 0.5), (20, 0.25), (20, 0.75)])
    >>> curve.at(5), curve.at(15), curve.at(30)
    (inf, 0.375, 0.25)
    """

    sizes: tuple[int, ...]
    losses: tuple[float, ...]

    @classmethod
    def through(cls, points: Iterable[tuple[int, float]]) -> "Curve":
        """Return the curve through points (bytes, loss), with the least loss of several at one size."""
        least: dict[int, float] = {}
        for size, loss in points:
            least[size] = min(loss, least.get(size, loss))
        return cls(tuple(sorted(least)), tuple(least[size] for size in sorted(least)))

    def points(self) -> list[tuple[int, float]]:
        """Return the points (bytes, loss), ascending in bytes."""
        return list(zip(self.sizes, self.losses, strict=True))

    def at(self, size: int) -> float:
        """Return the loss at a size: infinite below the smallest size, constant above the largest."""
        if not self.sizes or size < self.sizes[0]:
            return float("inf")
        right = min(bisect_left(self.sizes, size), len(self.sizes) - 1)
        if self.sizes[right] <= size:
            return self.losses[right]
        part = (size - self.sizes[right - 1]) / (self.sizes[right] - self.sizes[right - 1])
        return self.losses[right - 1] + part * (self.losses[right] - self.losses[right - 1])


def lower_hull(curve: Curve) -> Curve:
    """Return the largest convex, decreasing curve that is nowhere above `curve` (Andrew's monotone chain)."""
    hull: list[tuple[int, float]] = []
    for size, loss in curve.points():
        if hull and loss >= hull[-1][1]:
            continue  # larger and no better
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-2], (size, loss)):
            hull.pop()
        hull.append((size, loss))
    return Curve.through(hull)


def allocate(curves: Mapping[str, Curve], weights: Mapping[str, float], n_bytes: int) -> dict[str, int]:
    """Allocate `n_bytes` so that the weighted sum of losses is least.

    Minimises sum_l s_l loss_l(b_l) subject to sum_l b_l <= n_bytes, on the lower convex hulls of the curves. As the
    Lagrange multiplier of the budget falls from infinity, each hull is walked from its smallest size towards the
    largest (the unchanged layer, which loses nothing): the steepest of the remaining segments comes next, until the
    bytes are spent. One layer ends between two points of its hull, so that the budget is met exactly.

    Parameters
    ----------
    curves : mapping of name to Curve
    weights : mapping of name to float
        Sensitivity s_l, positive.
    n_bytes : int

    Returns
    -------
    dict of name to int
        Bytes of each layer.

    Raises
    ------
    BudgetError
        If the smallest sizes of all layers add up to more than `n_bytes`.

    References
    ----------
    Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Transactions on Acoustics,
    Speech, and Signal Processing 36 (1988).

    Examples
    --------
    >>> curves = {"a": Curve((10, 100), (1.0, 0.0)), "b": Curve((10, 200), (1.0, 0.0))}
    >>> allocate(curves, {"a": 1.0, "b": 1.0}, n_bytes=150)
    {'a': 100, 'b': 50}
    >>> allocate(curves, {"a": 1.0, "b": 10.0}, n_bytes=150)
    {'a': 10, 'b': 140}
    """
    hulls = {name: lower_hull(curve).points() for name, curve in curves.items()}
    sizes = {name: points[0][0] for name, points in hulls.items()}
    left = n_bytes - sum(sizes.values())
    if left < 0:
        raise BudgetError(
            f"the requested size leaves {max(n_bytes, 0):,} bytes for the chosen layers, but their smallest forms need "
            f"{sum(sizes.values()):,}. Ask for a larger model, or choose more layers."
        )
    segments = [
        (weights[name] * _slope(before, after), name, after[0] - before[0])
        for name, points in hulls.items()
        for before, after in pairwise(points)
    ]
    for _, name, length in sorted(segments, key=lambda segment: segment[0]):  # stable: keeps the order within a hull
        step = min(length, left)
        sizes[name] += step
        left -= step
    return sizes


def _slope(before: tuple[int, float], after: tuple[int, float]) -> float:
    """Return the change of loss per byte: negative if more bytes lower the loss."""
    return (after[1] - before[1]) / (after[0] - before[0])
