"""GOBO: outliers as they are, all other weights of a layer as one of a few values, found without data.

Zadeh, Edo, Awad and Moshovos, "GOBO: Quantizing Attention-Based NLP Models for Low Latency and Energy Efficient
Inference", MICRO 2020.

From the paper: a Gaussian with the mean and deviation of the layer; weights whose log-probability is below -4 are
outliers and keep their 32 bits; the others start in bins of equal population, each represented by its mean; weights
move to the nearest representative and representatives to the mean of their weights, until the sum of absolute errors
(L1) no longer falls.

Written from the published description, without the authors' code. Guessed: the log-probability is the natural
logarithm of the density in the weights' own units; every weight, outliers too, has an index, and an outlier its
position in as few bits as the layer's size takes; a layer is one matrix, the word embedding included.
"""

from functools import partial
from math import ceil, log, log2, pi

import numpy as np
import torch
from torch import Tensor

from rivals.rival import Fit, Subject, coded_by

THRESHOLD = -4.0  # of the log-probability
FLOAT_BITS = 32


def is_outlier(matrix: Tensor) -> Tensor:
    """Return which entries are outliers, a bool tensor of the same shape.

    Examples
    --------
    >>> weights = torch.linspace(-0.05, 0.05, 999)
    >>> is_outlier(torch.cat([weights, torch.tensor([0.2])])).nonzero().tolist()
    [[999]]
    """
    work = matrix.double()
    deviation = work.std(correction=0)
    if deviation == 0:
        return torch.zeros_like(matrix, dtype=torch.bool)
    density = -0.5 * ((work - work.mean()) / deviation).square() - deviation.log() - 0.5 * log(2 * pi)
    return density < THRESHOLD


def levels_of(values: np.ndarray, count: int) -> np.ndarray:
    """Return the values that represent the weights: means of bins, improved while the L1 error falls.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Sorted.
    count : int

    Examples
    --------
    >>> levels_of(np.array([0.0, 1.0, 9.0, 10.0, 11.0]), 2)
    array([ 0.5, 10. ])
    """
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    cuts = np.linspace(0, len(values), count + 1).round().astype(np.int64)
    levels, best, least = np.zeros(count), np.zeros(count), np.inf
    while True:
        filled = np.diff(cuts) > 0
        levels = np.where(filled, np.diff(sums[cuts]) / np.maximum(np.diff(cuts), 1), levels)
        levels = np.sort(levels)
        cuts = np.concatenate([[0], np.searchsorted(values, (levels[1:] + levels[:-1]) / 2), [len(values)]])
        middle = np.clip(np.searchsorted(values, levels), cuts[:-1], cuts[1:])
        below = levels * (middle - cuts[:-1]) - (sums[middle] - sums[cuts[:-1]])
        above = (sums[cuts[1:]] - sums[middle]) - levels * (cuts[1:] - middle)
        error = float((below + above).sum())
        if error >= least:
            return best
        best, least = levels, error


def quantized(matrix: Tensor, bits: int) -> tuple[Tensor, int]:
    """Return the matrix after coding, and the bytes of indices, levels and outliers.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    bits : int
        Of an index.
    """
    outliers = is_outlier(matrix)
    others = matrix[~outliers].float()
    levels = torch.from_numpy(levels_of(np.sort(others.numpy()), 2**bits)).float()
    decoded = matrix.float().clone()
    decoded[~outliers] = levels[torch.bucketize(others, (levels[1:] + levels[:-1]) / 2)]
    size = matrix.numel()
    position = max(1, ceil(log2(size)))
    n_bits = size * bits + len(levels) * FLOAT_BITS + int(outliers.sum()) * (FLOAT_BITS + position)
    return decoded.to(matrix.dtype), ceil(n_bits / 8)


def fit(bits: int, subject: Subject, share: float | None) -> Fit:
    """Code all matrices; see `Rival.fit`."""
    total = coded_by(partial(quantized, bits=bits), subject)
    return Fit(total, f"{2**bits} levels a matrix, outliers below a log-probability of {THRESHOLD:g} in float32")
