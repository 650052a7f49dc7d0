"""Sharing one budget of bytes among layers, by how much each loses at each size."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from lpcompress.errors import BudgetError


@dataclass(frozen=True)
class Curve:
    """What a layer loses at some sizes; between them, what the straight line says.

    Attributes
    ----------
    sizes : tuple of int
        Bytes, ascending.
    losses : tuple of float
        Share of the energy of the layer that is lost at each size.
    """

    sizes: tuple[int, ...]
    losses: tuple[float, ...]

    @classmethod
    def through(cls, points: Iterable[tuple[int, float]]) -> "Curve":
        """Return the curve through points (bytes, loss); of several at one size, the least loss counts."""
        least: dict[int, float] = {}
        for size, loss in points:
            least[size] = min(loss, least.get(size, loss))
        return cls(tuple(sorted(least)), tuple(least[size] for size in sorted(least)))

    def points(self) -> list[tuple[int, float]]:
        """Return the points (bytes, loss), ascending in bytes."""
        return list(zip(self.sizes, self.losses, strict=True))

    def at(self, size: int) -> float:
        """Return the loss at a size; infinite below the smallest."""
        if not self.sizes or size < self.sizes[0]:
            return float("inf")
        right = min(bisect_left(self.sizes, size), len(self.sizes) - 1)
        if self.sizes[right] <= size:
            return self.losses[right]
        part = (size - self.sizes[right - 1]) / (self.sizes[right] - self.sizes[right - 1])
        return self.losses[right - 1] + part * (self.losses[right] - self.losses[right - 1])


def lower_hull(curve: Curve) -> Curve:
    """Return the largest convex, falling curve that is nowhere above `curve` (Andrew's monotone chain)."""
    hull: list[tuple[int, float]] = []
    for size, loss in curve.points():
        if hull and loss >= hull[-1][1]:
            continue  # larger and no better
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-2], (size, loss)):
            hull.pop()
        hull.append((size, loss))
    return Curve.through(hull)


def allocate(curves: Mapping[str, Curve], weights: Mapping[str, float], n_bytes: int) -> dict[str, int]:
    """Share `n_bytes` so that the weighted sum of losses is least.

    Minimises sum_l s_l loss_l(b_l) over sum_l b_l <= n_bytes, on the lower convex hulls of the curves. With the
    multiplier of the budget falling from infinity, each hull is walked from its smallest size towards the largest (a
    layer as it is, which loses nothing): the steepest of all segments comes next, until the bytes are spent. One
    layer is left between two points of its hull, so that the budget is met exactly.

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
        If the smallest sizes of all layers do not fit.

    References
    ----------
    Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Transactions on Acoustics,
    Speech, and Signal Processing 36 (1988).
    """
    hulls = {name: lower_hull(curve).points() for name, curve in curves.items()}
    sizes = {name: points[0][0] for name, points in hulls.items()}
    left = n_bytes - sum(sizes.values())
    if left < 0:
        raise BudgetError(
            f"the asked size leaves {max(n_bytes, 0):,} bytes for the chosen layers, but their smallest forms need "
            f"{sum(sizes.values()):,}. Ask for a larger model, or choose more layers."
        )
    segments = [
        (weights[name] * _slope(before, after), name, after[0] - before[0])
        for name, points in hulls.items()
        for before, after in pairwise(points)
    ]
    for _, name, length in sorted(segments, key=lambda segment: segment[0]):  # stable: each hull's own order is kept
        step = min(length, left)
        sizes[name] += step
        left -= step
    return sizes


def _slope(before: tuple[int, float], after: tuple[int, float]) -> float:
    """Return the change of loss a byte: negative where bytes help."""
    return (after[1] - before[1]) / (after[0] - before[0])
