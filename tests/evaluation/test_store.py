import pytest

from lpcompress.atomic import beside, claimed
from lpcompress.atomic.workspaces import LOCK
from lpcompress.evaluation.results import OUTCOME, Outcome
from lpcompress.evaluation.store import Store
from lpcompress.glue.labels import LabelMap

FOUND = Outcome("m", {"validation": [0, 1]}, {"accuracy": 50.0}, LabelMap((0, 1), "names"), None, 1.5)
KEY = {"model": "m", "limit": None, "data": ["f"]}


def test_an_outcome_is_found_only_under_its_key(tmp_path):
    store = Store(tmp_path / "parts", resume=True, kind=OUTCOME)
    store.keep("mrpc", KEY, FOUND)
    assert store.recall("mrpc", dict(reversed(KEY.items()))) == FOUND
    assert store.recall("mrpc", KEY | {"limit": 10}) is None
    assert store.recall("rte", KEY) is None
    assert Store(tmp_path / "parts", resume=False, kind=OUTCOME).recall("mrpc", KEY) is None


def test_floats_are_read_back_to_the_last_bit(tmp_path):
    store = Store(tmp_path, resume=True, kind=OUTCOME)
    values = [0.1 + 0.2, 1 / 3, 1e-17, 4.999999999999999]
    store.keep("stsb", KEY, Outcome("m", {"validation": values}, {}, LabelMap(None, "regression"), None, 0.0))
    assert store.recall("stsb", KEY).predictions["validation"] == values


def test_a_garbled_part_is_computed_again(tmp_path):
    store = Store(tmp_path, resume=True, kind=OUTCOME)
    store.keep("mrpc", KEY, FOUND)
    [path] = tmp_path.iterdir()
    path.write_text("{")
    with pytest.warns(UserWarning, match="is garbled and will be computed again"):
        assert store.recall("mrpc", KEY) is None


def test_what_a_kill_left_beside_a_finished_part_is_removed(tmp_path):
    store = Store(tmp_path, resume=True, kind=OUTCOME)
    store.keep("mrpc", KEY, FOUND)
    [path] = tmp_path.iterdir()
    with claimed(beside(path)):
        assert store.recall("mrpc", KEY) == FOUND and beside(path).exists()  # its owner lives
    beside(path).mkdir()
    (beside(path) / LOCK).touch()
    assert store.recall("mrpc", KEY) == FOUND and list(tmp_path.iterdir()) == [path]
