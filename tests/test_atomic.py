"""Files and directories that are written completely or not at all."""

import os
import subprocess
import sys

import pytest

from lpcompress.atomic import atomic_directory, refuse_unwritable, write_atomically
from lpcompress.errors import LpCompressError


def test_a_directory_appears_when_the_block_succeeds(tmp_path):
    out = tmp_path / "new" / "results"
    with atomic_directory(out) as directory:
        (directory / "sub").mkdir()
        (directory / "sub" / "a.txt").write_text("a")
        assert not out.exists() and directory.parent == out.parent and directory.name.startswith(".")
    assert (out / "sub" / "a.txt").read_text() == "a"
    assert os.listdir(out.parent) == ["results"]
    with atomic_directory(out) as directory:
        (directory / "b.txt").touch()
        assert os.listdir(out) == ["sub"]
    assert os.listdir(out) == ["b.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ZeroDivisionError()])
def test_an_error_in_the_block_keeps_the_old_directory(tmp_path, error):
    out = tmp_path / "results"
    for before in ([], ["old.txt"]):
        if before:
            out.mkdir()
            (out / "old.txt").touch()
        with pytest.raises(type(error)), atomic_directory(out) as directory:
            (directory / "new.txt").touch()
            raise error
        assert os.listdir(tmp_path) == (["results"] if before else [])
    assert os.listdir(out) == ["old.txt"]


def test_only_temporary_files_of_killed_runs_are_removed(tmp_path):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead = tmp_path / f".a.json.tmp-{finished.pid}"
    running = tmp_path / f".a.json.tmp-{os.getppid()}"
    dead.touch(), running.touch()
    write_atomically(tmp_path / "b.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {"b.json", running.name}


def test_a_failed_write_keeps_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lpcompress.atomic.flush", full)
    with pytest.raises(LpCompressError, match=r"cannot be written: No space left on device. Name another file"):
        write_atomically(path, "new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.json", "old")]


def test_an_unwritable_path_is_refused(tmp_path):
    refuse_unwritable(tmp_path / "new/r.json")
    (tmp_path / "file").touch()
    with pytest.raises(LpCompressError, match=r"must be a file for the results. It is a directory"):
        refuse_unwritable(tmp_path)
    with pytest.raises(LpCompressError, match="file is not a directory you may write to"):
        refuse_unwritable(tmp_path / "file/r.json")
