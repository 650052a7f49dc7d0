import pytest

from lpcompress.config.plan import Plan
from lpcompress.config.sweeping import RATIOS, plans_of_sweep
from lpcompress.errors import PlanError


def test_methods_come_one_after_the_other_with_the_same_row_weights():
    found = plans_of_sweep(Plan(clusters=4, seed=3), ["svd", "messi"], ["0.5", "0.9"], [])
    assert list(found) == ["svd, ratio 0.5", "svd, ratio 0.9", "messi, ratio 0.5", "messi, ratio 0.9"]
    assert [each.clusters for each in found.values()] == [None, None, 4, 4]  # svd has one subspace
    assert {(each.exponent, each.seed) for each in found.values()} == {(0.5, 3)}
    assert next(iter(plans_of_sweep(Plan(exponent=1), [], [0.5], []).values())).exponent == 1


def test_the_default_sizes_suit_the_layers():
    assert [each.ratio for each in plans_of_sweep(None, [], [], []).values()] == list(RATIOS)
    assert {each.method for each in plans_of_sweep(None, [], [], []).values()} == {"coded"}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ((None, [], [0.5], [0.1]), "ratios and sizes must not be given together"),
        ((None, [], ["90"], []), "ratio must be above 0 and below 1"),
        ((None, [], [], ["small"]), "target_size must be a number"),
        ((None, ["codd"], [0.5], []), "did you mean 'coded'"),
    ],
)
def test_invalid_points_are_refused(asked, sentence):
    with pytest.raises(PlanError, match=sentence):
        plans_of_sweep(*asked)
