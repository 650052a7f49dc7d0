"""The outer loop that gives every method its l_p form: alternating direction method of multipliers.

It iterates the least-squares mathematics of the stored form at hand, `refit` and `project`. A form registers its own
beside the rest of its mathematics (`low_rank`, `clustered`, `encoding`), by the type of its container.
"""

from functools import singledispatch

from torch import Tensor

from lpcompress.errors import LpCompressError
from lpcompress.factor.norms import power_sum_of_difference, shrink
from lpcompress.factor.problem import Budget
from lpcompress.formats.base import Factorization
from lpcompress.formats.packing import CHUNK

ROUNDS = 24
GROWTH = 1.05  # of the penalty, a round


@singledispatch
def refit(like: Factorization, target: Tensor, budget: Budget) -> Factorization:
    """Factor a matrix anew with the structure of a factorization at hand, in the least squares.

    Parameters
    ----------
    like : Factorization
        Says what stays: the rank, which rows belong to which cluster, the basis of sparse codes.
    target : Tensor of shape (n, d)
    budget : Budget
    """
    raise LpCompressError(
        f"a {type(like).__name__} can be fitted for p = 2 only: no `refit` of its form is registered, which other norms"
        " iterate."
    )


@singledispatch
def project(like: Factorization, target: Tensor, budget: Budget) -> None:
    """Overwrite a matrix by the nearest one of the structure of `like`: what `refit` gives, unless a form is quicker.

    The parameters are those of `refit`.
    """
    target.copy_(refit(like, target, budget).dense())


def robust(matrix: Tensor, start: Factorization, budget: Budget, p: float) -> Factorization:
    """Lower the entrywise l_p error of `start` without changing its structure.

    Minimises sum |E|^p subject to A = X + E, X in the set that `project` projects on (matrices of one rank, rows in the
    subspaces of fixed clusters, sparse codes in a fixed basis). E moves by the proximal map of |x|^p, X by the
    least-squares fit of A - E + U, and U is the scaled multiplier.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    start : Factorization
    budget : Budget
    p : float
        In [1, 2).

    Returns
    -------
    Factorization
        `start` itself where the loop ends above its l_p error: the set is not convex, so the loop is a heuristic.

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
        project(start, target, budget)
        threshold /= GROWTH
        multiplier /= GROWTH
    del multiplier
    found = refit(start, target, budget)
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
