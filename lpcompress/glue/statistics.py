"""Whether a difference between two models on the same rows means anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 1000
Statistic = Callable[[np.ndarray, np.ndarray], float]  # predictions, labels -> points


@dataclass(frozen=True)
class Paired:
    """What two models predict for the same rows.

    Attributes
    ----------
    labels, baseline, compressed : ndarray of shape (n,)
    statistics : tuple of callable (predictions, labels)
        The metrics that are read off these rows.
    """

    labels: np.ndarray
    baseline: np.ndarray
    compressed: np.ndarray
    statistics: tuple[Statistic, ...]


def drop_se(splits: Sequence[Paired], resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Return the standard error of a drop in score, by the paired bootstrap.

    Rows are drawn with replacement, the same ones for both models, in each split by itself; the score is the mean of
    all metrics of all splits. The standard error is the standard deviation of the drop over the draws.

    Parameters
    ----------
    splits : sequence of Paired
    resamples : int, default=1000
    seed : int, default=0

    Returns
    -------
    float
        In points.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, algorithm 6.1; for two systems on the same test set:
    Berg-Kirkpatrick, Burkett and Klein, An Empirical Investigation of Statistical Significance in NLP, EMNLP 2012.
    """
    generator = np.random.default_rng(seed)
    drops = np.zeros(resamples)
    terms = sum(len(split.statistics) for split in splits)
    for split in splits:
        if np.array_equal(split.baseline, split.compressed):
            continue  # every draw gives 0
        n = len(split.labels)
        for draw in range(resamples):
            rows = generator.integers(n, size=n)
            labels, baseline, compressed = split.labels[rows], split.baseline[rows], split.compressed[rows]
            drops[draw] += sum(metric(baseline, labels) - metric(compressed, labels) for metric in split.statistics)
    return float((drops / terms).std(ddof=1))


def mcnemar(splits: Sequence[Paired]) -> float:
    """Return the probability of so uneven a change of right answers if both models were equally good.

    The exact test: of the rows that only one of the models gets right, each is as likely to be the other's.

    References
    ----------
    McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12, 1947.
    """
    lost = sum(int(np.sum((s.baseline == s.labels) & (s.compressed != s.labels))) for s in splits)
    won = sum(int(np.sum((s.baseline != s.labels) & (s.compressed == s.labels))) for s in splits)
    return float(binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0
