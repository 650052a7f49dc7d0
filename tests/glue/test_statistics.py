"""Standard errors and tests, against closed forms and SciPy."""

import numpy as np
import pytest
from scipy.stats import binom, bootstrap

from lpcompress.glue.statistics import Paired, drop_se, mcnemar


def accuracy(predictions, labels):
    return 100 * float(np.mean(predictions == labels))


def pairs(n=400, seed=0, right=0.8, changed=0.1):
    """Labels, a baseline with accuracy `right`, and a compressed model that changes a share of its answers."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=n)
    baseline = np.where(generator.random(n) < right, labels, 1 - labels)
    compressed = np.where(generator.random(n) < changed, 1 - baseline, baseline)
    return labels, baseline, compressed


def test_the_bootstrap_of_accuracy_agrees_with_its_closed_form():
    labels, baseline, compressed = pairs()
    difference = 100.0 * ((baseline == labels).astype(int) - (compressed == labels).astype(int))
    expected = difference.std() / np.sqrt(len(labels))
    found = drop_se([Paired(labels, baseline, compressed, (accuracy,))], resamples=4000)
    assert found == pytest.approx(expected, rel=0.05)


def test_two_splits_are_drawn_independently_and_averaged():
    parts = [Paired(*pairs(seed=seed), (accuracy,)) for seed in (1, 2)]
    alone = [drop_se([part], resamples=4000) for part in parts]
    assert drop_se(parts, resamples=4000) == pytest.approx(np.hypot(*alone) / 2, rel=0.05)


def test_a_score_of_two_metrics_is_their_mean():
    labels, baseline, compressed = pairs()
    one = drop_se([Paired(labels, baseline, compressed, (accuracy,))])
    assert drop_se([Paired(labels, baseline, compressed, (accuracy, accuracy))]) == pytest.approx(one)
    assert drop_se([Paired(labels, baseline, compressed, (accuracy, lambda *_: 0.0))]) == pytest.approx(one / 2)


def test_the_seed_fixes_the_draws():
    parts = [Paired(*pairs(), (accuracy,))]
    assert drop_se(parts, seed=3) == drop_se(parts, seed=3) != drop_se(parts, seed=4)


def test_equal_predictions_have_no_error():
    labels, baseline, _ = pairs()
    same = [Paired(labels, baseline, baseline.copy(), (accuracy,))]
    assert (drop_se(same), mcnemar(same)) == (0.0, 1.0)


def test_mcnemar_is_the_binomial_tail():
    labels = np.zeros(40, dtype=int)
    baseline, compressed = labels.copy(), labels.copy()
    compressed[:9] = 1  # lost
    baseline[9:11] = 1  # won
    baseline[11:14] = compressed[11:14] = 1  # both wrong
    expected = 2 * binom.cdf(2, 11, 0.5)
    assert mcnemar([Paired(labels, baseline, compressed, ())]) == pytest.approx(expected)
    halves = [Paired(labels[part], baseline[part], compressed[part], ()) for part in (slice(5), slice(5, 40))]
    assert mcnemar(halves) == pytest.approx(expected)


def test_the_draws_are_those_of_scipy():
    parts = [Paired(*pairs(n=60, seed=seed), (accuracy,)) for seed in (1, 2)]

    def drop(labels, baseline, model):
        return (accuracy(baseline, labels) - accuracy(model, labels)) / 2

    generator, drops = np.random.default_rng(3), 0
    for part in parts:
        data = part.labels, part.baseline, part.model
        options = {"paired": True, "vectorized": False, "batch": 1, "method": "percentile", "rng": generator}
        drops = drops + bootstrap(data, drop, n_resamples=50, **options).bootstrap_distribution
    assert drop_se(parts, resamples=50, seed=3) == drops.std(ddof=1)


def test_one_row_has_no_error():
    one = np.array([1])
    assert drop_se([Paired(one, one, 1 - one, (accuracy,))]) == 0.0
