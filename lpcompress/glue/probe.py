"""Infer the order of a model's outputs from labelled rows, with a permutation test."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

Order = tuple[int, ...]

PROBE_ROWS = 500
SHUFFLES = 999
LEVEL = 0.001  # significance level of the permutation test


@dataclass(frozen=True)
class Evidence:
    """Result of a probe.

    Attributes
    ----------
    accuracies : dict of tuple of int to float
        Order -> accuracy, 0 to 1, if output i means class `order[i]`; all orders, best first. Accuracy is the mean over
        classes, so that a constant answer is at chance however common its class is.
    sure : bool
        Whether the lead of the best order over the next is significant at `LEVEL`.
    """

    accuracies: dict[Order, float]
    sure: bool

    @property
    def best(self) -> Order:
        """The order with the highest accuracy."""
        return next(iter(self.accuracies))


def examine(logits: np.ndarray, labels: np.ndarray, size: int) -> Evidence:
    """Compare all orders of `size` classes on the first `PROBE_ROWS` rows.

    Significance comes from a permutation test: labels are shuffled, which keeps the frequencies of classes and of
    answers, and the lead of the best order is compared with its leads after shuffling. The test is valid for small
    samples too: with two classes, about 14 rows that are all right are significant.

    Parameters
    ----------
    logits : array of shape (n, size)
    labels : array of int of shape (n,)
    size : int
        Number of classes.

    Examples
    --------
    >>> labels = np.arange(60) % 3
    >>> logits = np.eye(3)[(labels + 1) % 3]  # output i means class i - 1
    >>> found = examine(logits, labels, 3)
    >>> found.best, found.accuracies[found.best], found.sure
    ((2, 0, 1), 1.0, True)
    """
    outputs, labels = logits[:PROBE_ROWS].argmax(axis=1), labels[:PROBE_ROWS]
    accuracies = _accuracies(_confusion(outputs, labels, size))
    found = _lead(accuracies) - 1e-9  # sums in another order round differently
    as_clear = sum(_lead(shuffled) >= found for shuffled in _shuffled(outputs, labels, size))
    return Evidence(accuracies, (1 + as_clear) / (1 + SHUFFLES) <= LEVEL)


def _shuffled(outputs: np.ndarray, labels: np.ndarray, size: int) -> Iterator[dict[Order, float]]:
    generator = np.random.default_rng(0)
    for _ in range(SHUFFLES):
        yield _accuracies(_confusion(outputs, generator.permutation(labels), size))


def _confusion(outputs: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """Return the counts of shape (outputs, classes)."""
    return np.bincount(outputs * size + labels, minlength=size * size).reshape(size, size)


def _accuracies(counts: np.ndarray) -> dict[Order, float]:
    """Return the accuracy of every order, best first; the mean over the classes that occur."""
    totals = counts.sum(axis=0)  # (classes,)
    recalls = counts / np.maximum(totals, 1)
    outputs = np.arange(len(counts))
    orders = itertools.permutations(range(len(counts)))
    found = {order: float(recalls[outputs, order].sum() / np.count_nonzero(totals)) for order in orders}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _lead(accuracies: dict[Order, float]) -> float:
    first, second, *_ = accuracies.values()
    return first - second
