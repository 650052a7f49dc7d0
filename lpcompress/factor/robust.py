"""Entrywise l_p fits for every method, by the alternating direction method of multipliers (ADMM).

The loop repeats the least-squares fit of the stored form, `refit` and `project`. Each form registers its own, by the
type of its container, in the module of its mathematics (`low_rank`, `clustered`).
"""

from functools import singledispatch

import torch
from torch import Tensor

from lpcompress.errors import LpCompressError
from lpcompress.factor.norms import power_sum_of_difference, shrink
from lpcompress.factor.problem import Budget
from lpcompress.formats.base import Factorization
from lpcompress.formats.packing import CHUNK
from lpcompress.progress import Told, unheard

ROUNDS = 24
GROWTH = 1.05  # of the penalty parameter, per round


@singledispatch
def refit(like: Factorization, target: Tensor, budget: Budget) -> Factorization:
    """Return the least-squares fit of a matrix with the structure of a given factorization.

    Parameters
    ----------
    like : Factorization
        Gives the structure to keep: the rank, the cluster of each row.
    target : Tensor of shape (n, d)
    budget : Budget
    """
    raise LpCompressError(
        f"a {type(like).__name__} can be fitted for p = 2 only: other norms need a `refit`, and none is registered for"
        " its form."
    )


@singledispatch
def project(like: Factorization, target: Tensor, budget: Budget) -> None:
    """Overwrite a matrix with the nearest one of the structure of `like`.

    The result is that of `refit`, unless a form registers a faster version. The parameters are those of `refit`.
    """
    target.copy_(refit(like, target, budget).dense())


def robust(matrix: Tensor, start: Factorization, budget: Budget, p: float, told: Told = unheard) -> Factorization:
    """Lower the entrywise l_p error of `start` without changing its structure.

    Minimises sum |E|^p subject to A = X + E, X in the set onto which `project` projects (matrices of one rank, rows in
    subspaces of fixed clusters). E is updated by the proximal map of |x|^p, X by the least-squares fit of A - E + U;
    U is the scaled dual variable.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    start : Factorization
    budget : Budget
    p : float
        In [1, 2).
    told : callable (share), optional
        Takes the share of the rounds that are done.

    Returns
    -------
    Factorization
        `start` itself if the loop does not lower its l_p error: the set is not convex, so that ADMM is a heuristic.

    References
    ----------
    Boyd et al., "Distributed optimization and statistical learning via the alternating direction method of
    multipliers", Foundations and Trends in Machine Learning 3 (2011), section 3.1.1 (scaled form).
    """
    target = start.dense()
    least = power_sum_of_difference(matrix, target, p)
    if least == 0:
        return start
    size = (least / matrix.numel()) ** (1 / p)  # a typical residual, which sets the first threshold
    multiplier, threshold = matrix.new_zeros(matrix.shape), size ** (2 - p) / p
    for done in range(ROUNDS):
        told(done / ROUNDS)
        _step(matrix, target, multiplier, threshold, p)
        project(start, target, budget)
        threshold /= GROWTH
        multiplier /= GROWTH
    del multiplier
    found = refit(start, target, budget)
    del target
    return found if power_sum_of_difference(matrix, found.dense(), p) < least else start


def _step(matrix: Tensor, target: Tensor, multiplier: Tensor, threshold: float, p: float) -> None:
    """Update E and U; `target` holds X on entry and A - E + U on return."""
    for rows, fitted, scaled in zip(*(each.split(CHUNK) for each in (matrix, target, multiplier)), strict=True):
        scaled += torch.sub(rows, fitted, out=fitted)
        error = shrink(scaled, threshold, p)
        scaled -= error
        torch.sub(rows, error, out=fitted).add_(scaled)
