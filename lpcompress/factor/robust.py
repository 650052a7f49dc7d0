"""The outer loop that gives every method its l_p form: alternating direction method of multipliers."""

from collections.abc import Callable

from torch import Tensor

from lpcompress.factor.factorization import Factorization
from lpcompress.factor.linalg import CHUNK
from lpcompress.factor.norms import power_sum, shrink

ROUNDS = 30
GROWTH = 1.05  # of the penalty, a round


def robust(
    matrix: Tensor,
    start: Factorization,
    refit: Callable[[Tensor, Factorization], Factorization],
    p: float,
    rounds: int = ROUNDS,
) -> Factorization:
    """Lower the entrywise l_p error of `start` without changing its structure.

    Minimises sum |E|^p subject to A = X + E, X in the set that `refit` projects on (matrices of one rank,
    rows in the subspaces of fixed clusters, sparse codes). E moves by the proximal map of |x|^p, X by
    the method's own least-squares fit of A - E + U, U is the scaled multiplier.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    start : Factorization
    refit : callable (target, previous) -> Factorization
    p : float
        In [1, 2). The set is not convex, so the loop is a heuristic: the best round is kept, and the
        result is never worse than `start` in the l_p error.
    rounds : int

    References
    ----------
    Boyd et al., "Distributed optimization and statistical learning via the alternating direction method of
    multipliers", Foundations and Trends in Machine Learning 3 (2011), section 3.1.1 (scaled form).
    """
    target = start.dense()
    least = _residual_power(matrix, target, p)
    size = (least / matrix.numel()) ** (1 / p)  # a typical residual; shrinking starts at its size
    best, current, multiplier, threshold = start, start, matrix.new_zeros(matrix.shape), size ** (2 - p) / p
    for _ in range(rounds if least > 0 else 0):
        _step(matrix, target, multiplier, threshold, p)
        current = refit(target, current)
        target = current.dense()
        error = _residual_power(matrix, target, p)
        if error < least:
            best, least = current, error
        threshold /= GROWTH
        multiplier /= GROWTH
    return best


def _step(matrix: Tensor, target: Tensor, multiplier: Tensor, threshold: float, p: float) -> None:
    """Move E and U; `target` comes in as X and leaves as A - E + U. Both are changed in place."""
    for start in range(0, matrix.shape[0], CHUNK):
        rows = slice(start, start + CHUNK)
        shifted = matrix[rows] - target[rows] + multiplier[rows]
        error = shrink(shifted, threshold, p)
        multiplier[rows] = shifted - error
        target[rows] = matrix[rows] - error + multiplier[rows]


def _residual_power(matrix: Tensor, approximation: Tensor, p: float) -> float:
    chunks = zip(matrix.split(CHUNK), approximation.split(CHUNK), strict=True)
    return sum(power_sum(rows - fitted, p) for rows, fitted in chunks)
