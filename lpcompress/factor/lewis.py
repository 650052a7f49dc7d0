"""Lewis weights: the ellipsoid that approximates the l_p ball of a matrix."""

import torch
from torch import Tensor

from lpcompress.factor.linalg import gram, gram_of
from lpcompress.formats.packing import CHUNK

RIDGE = 100  # times eps times the trace: added to the diagonal if rounding made a small eigenvalue negative


def lewis_ellipsoid(matrix: Tensor, p: float, rounds: int = 30, tolerance: float = 1e-2) -> Tensor:
    """Return M (d, d) with ||M^(1/2) x||_2 <= ||A x||_p <= d^(1/p - 1/2) ||M^(1/2) x||_2 for all x.

    Fixed point of w_i <- (a_i^T M^-1 a_i)^(p/2), M = A^T W^(1 - 2/p) A, for p in [1, 2]. In log w the map contracts by
    |1 - p/2| per round, and by less in all directions but that of a common factor. That factor is known, because the
    weights of the fixed point sum to d, so that a few rounds reach 1 %.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        Must have full column rank.
    p : float
        In [1, 2]. p = 2 gives A^T A.
    rounds : int
        Maximum number of rounds.
    tolerance : float
        Stop when no log w_i changes by this much or more.

    References
    ----------
    Cohen and Peng, "l_p row sampling by Lewis weights", STOC 2015, section 3 (the iteration).
    Lewis, "Finite dimensional subspaces of L_p", Studia Mathematica 63 (1978) (the inequalities).

    Examples
    --------
    >>> lewis_ellipsoid(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), p=1)  # orthogonal rows have weight 1
    tensor([[ 9.,  0.],
            [ 0., 16.]], dtype=torch.float64)
    """
    if p == 2:
        return gram(matrix)
    weights = matrix.new_ones(matrix.shape[0])
    for _ in range(rounds):
        scale = weights.pow(0.5 - 1 / p)
        ellipsoid = _weighted_gram(matrix, scale)
        root = _inverse_root(ellipsoid, matrix.dtype).to(matrix.dtype)
        lengths = torch.cat([torch.linalg.vector_norm(rows @ root, dim=1) for rows in matrix.split(CHUNK)])
        # A row of zeros has weight 0; the floor keeps its negative power finite, and it adds nothing to M.
        updated = lengths.pow(p).clamp_min(torch.finfo(matrix.dtype).tiny ** 0.25)
        updated *= matrix.shape[1] / float(updated.sum(dtype=torch.float64))
        moved = float((updated / weights).log().abs().max())
        weights = updated
        if moved < tolerance:
            break
    return ellipsoid


def _weighted_gram(matrix: Tensor, scale: Tensor) -> Tensor:
    parts = zip(matrix.split(CHUNK), scale.split(CHUNK), strict=True)
    return gram_of((rows * factors.unsqueeze(1) for rows, factors in parts), matrix)


def _inverse_root(ellipsoid: Tensor, dtype: torch.dtype) -> Tensor:
    """Return R with R R^T = M^-1, from the Cholesky factor of M, the sum of products rounded to `dtype`."""
    identity = torch.eye(ellipsoid.shape[0], dtype=ellipsoid.dtype, device=ellipsoid.device)
    lower, failed = torch.linalg.cholesky_ex(ellipsoid)
    if failed:  # the smallest eigenvalues are below the rounding error
        lower = torch.linalg.cholesky(ellipsoid + RIDGE * torch.finfo(dtype).eps * ellipsoid.trace() * identity)
    return torch.linalg.solve_triangular(lower, identity, upper=False).T
