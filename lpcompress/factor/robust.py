"""The outer loop that gives every method its l_p form: alternating direction method of multipliers."""

from collections.abc import Callable

from torch import Tensor

from lpcompress.factor.norms import power_sum_of_difference, shrink
from lpcompress.factor.problem import Budget
from lpcompress.formats.base import Factorization
from lpcompress.formats.packing import CHUNK

ROUNDS = 24
GROWTH = 1.05  # of the penalty, a round

Project = Callable[[Tensor, Factorization, Budget], None]
"""Overwrites a matrix by the nearest one of the structure of the given factorization that fits the budget."""

Fit = Callable[[Tensor, Factorization, Budget], Factorization]
"""Factors a matrix with the structure of the given factorization."""


def robust(matrix: Tensor, start: Factorization, project: Project, fit: Fit, budget: Budget, p: float) -> Factorization:
    """Lower the entrywise l_p error of `start` without changing its structure.

    Minimises sum |E|^p subject to A = X + E, X in the set that `project` projects on (matrices of one rank,
    rows in the subspaces of fixed clusters, sparse codes in a fixed basis). E moves by the proximal map of
    |x|^p, X by the method's own least-squares fit of A - E + U, U is the scaled multiplier.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    start : Factorization
    project : callable (target, start, budget) -> None
        In place, so that the loop needs two matrices beside the given one.
    fit : callable (target, start, budget) -> Factorization
    budget : Budget
    p : float
        In [1, 2). The set is not convex, so the loop is a heuristic; where it ends above the l_p error
        of `start`, `start` comes back.

    References
    ----------
    Boyd et al., "Distributed optimization and statistical learning via the alternating direction method of
    multipliers", Foundations and Trends in Machine Learning 3 (2011), section 3.1.1 (scaled form).
    """
    target = start.dense()
    least = power_sum_of_difference(matrix, target, p)
    if least == 0:
        return start
    size = (least / matrix.numel()) ** (1 / p)  # a typical residual; shrinking starts at its size
    multiplier, threshold = matrix.new_zeros(matrix.shape), size ** (2 - p) / p
    for _ in range(ROUNDS):
        _step(matrix, target, multiplier, threshold, p)
        project(target, start, budget)
        threshold /= GROWTH
        multiplier /= GROWTH
    del multiplier
    found = fit(target, start, budget)
    del target
    return found if power_sum_of_difference(matrix, found.dense(), p) < least else start


def _step(matrix: Tensor, target: Tensor, multiplier: Tensor, threshold: float, p: float) -> None:
    """Move E and U in place; `target` comes in as X and leaves as A - E + U."""
    for start in range(0, matrix.shape[0], CHUNK):
        rows = slice(start, start + CHUNK)
        shifted = matrix[rows] - target[rows] + multiplier[rows]
        error = shrink(shifted, threshold, p)
        multiplier[rows] = shifted - error
        target[rows] = matrix[rows] - error + multiplier[rows]
