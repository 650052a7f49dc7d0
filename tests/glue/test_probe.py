"""The permutation test: significant if an order was planted, not significant if there is none."""

import numpy as np
import pytest

from lpcompress.glue.probe import LEVEL, examine


def examined(outputs, labels, size):
    """Examine a model with these largest outputs."""
    return examine(np.eye(size)[outputs], labels, size)


def answers(order, labels, skill, seed=0):
    """Outputs of a model whose output i means class order[i], right in a share `skill` of the rows."""
    generator = np.random.default_rng(seed)
    means = np.argsort(order)
    guesses = generator.integers(0, len(order), len(labels))
    return np.where(generator.random(len(labels)) < skill, means[labels], guesses)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_a_planted_order_is_found(order):
    labels = np.random.default_rng(1).integers(0, 3, 300)
    evidence = examined(answers(order, labels, 0.7), labels, 3)
    assert (evidence.best, evidence.sure) == (order, True)
    assert evidence.accuracies[order] == pytest.approx(0.8, abs=0.06)


def test_accuracy_is_the_mean_over_classes():
    labels, outputs = np.array([0] * 90 + [1] * 10), np.array([0] * 99 + [1])
    assert examined(outputs, labels, 2).accuracies == pytest.approx({(0, 1): 0.55, (1, 0): 0.45})


def test_a_constant_answer_is_no_evidence_however_common_its_class():
    labels = np.array([1] * 350 + [0] * 150)
    evidence = examined(np.ones(500, int), labels, 2)
    assert not evidence.sure
    assert set(evidence.accuracies.values()) == {0.5}


def test_chance_is_hardly_ever_significant():
    generator = np.random.default_rng(2)
    sure = [
        examined(generator.integers(0, k, n), generator.integers(0, k, n), k).sure
        for k in (2, 3)
        for n in (12, 60, 200)
        for _ in range(15)
    ]
    assert sum(sure) <= 1  # 90 times LEVEL is 0.1
    assert LEVEL <= 0.001


def test_few_rows_are_no_evidence_even_if_all_are_right():
    labels = np.arange(8) % 2
    assert not examined(labels, labels, 2).sure
    labels = np.arange(20) % 2
    assert examined(labels, labels, 2).sure


def test_two_classes_that_are_confused_are_no_evidence():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 3, 500)
    outputs = np.where(labels == 1, 1, 2 * generator.integers(0, 2, 500))  # neutral is right, the rest is guessed
    assert not examined(outputs, labels, 3).sure


def test_rows_of_one_class_are_no_evidence():
    assert not examined(np.zeros(50, int), np.zeros(50, int), 3).sure
