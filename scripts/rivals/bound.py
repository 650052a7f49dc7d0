"""The least error that any code of a size can have, if rows are Gaussian: reverse water-filling."""

import torch
from torch import Tensor


def least_error(matrix: Tensor, n_bytes: int) -> float:
    """Return the least relative Frobenius error at `n_bytes`, for independent Gaussian rows of this second moment.

    Real rows differ in scale, which a code can use: an error may be below this bound.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    n_bytes : int

    References
    ----------
    Cover and Thomas, Elements of Information Theory, theorem 10.3.3.

    Examples
    --------
    >>> matrix = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    >>> round(least_error(matrix, 4000 * 8 * 2 // 8), 2)  # 2 bits a number: 2^-2
    0.25
    """
    work = matrix.double()
    variances = torch.linalg.eigvalsh(work.T @ work / len(work)).clamp_min(0)
    bits = 8 * n_bytes / len(work)  # of a row
    low, high = 0.0, float(variances.max())
    for _ in range(100):
        level = (low + high) / 2
        taken = 0.5 * float((variances / level).clamp_min(1).log2().sum())
        low, high = (level, high) if taken > bits else (low, level)
    return float(variances.clamp_max(level).sum() / variances.sum()) ** 0.5
