"""Allocation of a budget, against brute force."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpcompress.errors import BudgetError
from lpcompress.factor.allocation import Curve, allocate, lower_hull

POINTS = st.lists(st.tuples(st.integers(1, 10), st.floats(0, 1)), min_size=1, max_size=5)
CURVES = st.lists(POINTS.map(Curve.through), min_size=1, max_size=3)


def on_line(points, size):
    """Return the lower convex hull at `size` by definition: the least value over all chords between points."""
    below = [loss for left, loss in points if left <= size]
    chords = [
        a[1] + (b[1] - a[1]) * (size - a[0]) / (b[0] - a[0])
        for a, b in itertools.combinations(sorted(points), 2)
        if a[0] <= size <= b[0] and a[0] < b[0]
    ]
    return min(below + chords)


@given(POINTS)
def test_the_hull_is_the_least_chord(points):
    hull = lower_hull(Curve.through(points))
    for size in range(min(s for s, _ in points), 11):
        assert hull.at(size) == pytest.approx(on_line(points, size), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(CURVES, st.lists(st.floats(0.1, 10), min_size=3, max_size=3), st.integers(0, 30))
def test_no_other_allocation_loses_less(curves, weights, budget):
    named = {str(i): curve for i, curve in enumerate(curves)}
    sensitivity = dict(zip(named, weights, strict=False))
    least = [curve.sizes[0] for curve in curves]
    if sum(least) > budget:
        with pytest.raises(BudgetError, match="smallest forms need"):
            allocate(named, sensitivity, budget)
        return
    sizes = allocate(named, sensitivity, budget)
    assert sum(sizes.values()) <= budget

    def loss(chosen):
        return sum(
            sensitivity[name] * on_line(named[name].points(), size) for name, size in zip(named, chosen, strict=True)
        )

    ranges = [range(size, 11) for size in least]
    best = min(loss(chosen) for chosen in itertools.product(*ranges) if sum(chosen) <= budget)
    assert loss(sizes.values()) == pytest.approx(best, abs=1e-6)


def test_the_budget_is_spent_to_the_byte():
    curves = {"a": Curve((10, 100), (1.0, 0.0)), "b": Curve((10, 200), (1.0, 0.0))}
    assert allocate(curves, {"a": 1.0, "b": 1.0}, 150) == {"a": 100, "b": 50}
    assert allocate(curves, {"a": 1.0, "b": 10.0}, 150) == {"a": 10, "b": 140}
