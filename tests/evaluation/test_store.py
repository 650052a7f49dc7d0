import os
import subprocess
import sys

import pytest

from lpcompress.atomic import refuse_unwritable, write_atomically
from lpcompress.errors import LpCompressError
from lpcompress.evaluation.results import Outcome
from lpcompress.evaluation.store import Store
from lpcompress.glue.labels import LabelMap

OUTCOME = Outcome("m", {"validation": [0, 1]}, {"accuracy": 50.0}, LabelMap((0, 1), "names"), None, 1.5)
KEY = {"model": "m", "limit": None, "data": ["f"]}


def test_what_is_kept_comes_back_under_its_key_alone(tmp_path):
    store = Store(tmp_path / "parts", resume=True)
    store.keep("mrpc", KEY, OUTCOME)
    assert store.recall("mrpc", dict(reversed(KEY.items()))) == OUTCOME
    assert store.recall("mrpc", KEY | {"limit": 10}) is None
    assert store.recall("rte", KEY) is None
    assert Store(tmp_path / "parts", resume=False).recall("mrpc", KEY) is None


def test_floats_come_back_to_the_last_bit(tmp_path):
    store = Store(tmp_path, resume=True)
    values = [0.1 + 0.2, 1 / 3, 1e-17, 4.999999999999999]
    store.keep("stsb", KEY, Outcome("m", {"validation": values}, {}, LabelMap(None, "regression"), None, 0.0))
    assert store.recall("stsb", KEY).predictions["validation"] == values


def test_a_garbled_part_is_made_again(tmp_path):
    store = Store(tmp_path, resume=True)
    store.keep("mrpc", KEY, OUTCOME)
    [path] = tmp_path.iterdir()
    path.write_text("{")
    with pytest.warns(UserWarning, match="is garbled and is made again"):
        assert store.recall("mrpc", KEY) is None


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead = tmp_path / f".a.json.tmp-{finished.pid}"
    living = tmp_path / f".a.json.tmp-{os.getppid()}"
    dead.touch(), living.touch()
    write_atomically(tmp_path / "b.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {"b.json", living.name}


def test_a_failed_write_leaves_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lpcompress.atomic.flush", full)
    with pytest.raises(LpCompressError, match=r"cannot be written: No space left on device. Name another file"):
        write_atomically(path, "new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    refuse_unwritable(tmp_path / "new/r.json")
    (tmp_path / "file").touch()
    with pytest.raises(LpCompressError, match=r"must be a file for the results. It is a directory"):
        refuse_unwritable(tmp_path)
    with pytest.raises(LpCompressError, match="file is not a directory you may write to"):
        refuse_unwritable(tmp_path / "file/r.json")
