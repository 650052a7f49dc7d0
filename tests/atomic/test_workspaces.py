"""Workspaces belong to one living process."""

import errno
import os
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from lpcompress.atomic import workspaces
from lpcompress.atomic.workspaces import beside, claimed, is_left


@pytest.fixture
def place(tmp_path):
    return tmp_path / "deep" / "place"


def hold(place):
    def work(say):
        with claimed(place) as workspace:
            (workspace / "half").mkdir()
            (workspace / "half" / "a").touch()
            say()
            time.sleep(60)

    return work


def test_nothing_is_left(place, tmp_path):
    with claimed(place) as workspace:
        (workspace / "sub").mkdir()
        (workspace / "file").touch()
    assert os.listdir(tmp_path) == []
    with pytest.raises(ZeroDivisionError), claimed(place):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_the_work_of_the_living_is_kept_and_that_of_the_dead_is_inherited(place, tmp_path, child):
    kill = child(hold(place))
    with pytest.raises(BlockingIOError), claimed(place, wait=False):
        pass
    assert (place / "half" / "a").exists()
    kill()
    assert is_left(place)
    with claimed(place, wait=False) as workspace:
        assert (workspace / "half" / "a").exists()
    assert os.listdir(tmp_path) == ["deep"]  # the killed process made it
    assert os.listdir(tmp_path / "deep") == []


def test_one_waits_for_the_other(place, child):
    kill = child(hold(place))
    begin = time.monotonic()

    def later(say):
        say()
        with claimed(place):
            pass

    child(later)
    time.sleep(0.1)
    kill()
    with claimed(place):
        assert time.monotonic() - begin > 0.1


def add(place, counter, times):
    for _ in range(times):
        with claimed(place):
            value = int(counter.read_text())
            counter.write_text(str(value + 1))


def test_processes_take_turns(place, tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    each = [get_context("fork").Process(target=add, args=(place, counter, 100)) for _ in range(4)]
    for process in each:
        process.start()
    for process in each:
        process.join(60)
        assert process.exitcode == 0
    assert counter.read_text() == "400" and set(os.listdir(tmp_path)) <= {"counter", "deep"} and not place.exists()


def test_what_others_remove_meanwhile_is_made_again(place, tmp_path, monkeypatch):
    make, remaining = Path.mkdir, ["parent", "workspace"]

    def late(path, *arguments, **options):
        if path == place and remaining:
            if remaining.pop() == "parent":
                place.parent.rmdir()
            else:
                raise FileExistsError(errno.EEXIST, "File exists", str(place))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", late)
    with claimed(place):
        assert place.is_dir() and not remaining
    assert os.listdir(tmp_path) == []


def test_a_place_where_nothing_can_be_made_is_an_error(place, monkeypatch):
    def refuse(path, *_, **__):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))  # as /proc does

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(FileNotFoundError, match=place.name), claimed(place):
        pass


def test_without_locks_nothing_of_others_is_touched(place, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(workspaces.fcntl, "flock", none)
    with claimed(place):
        with pytest.raises(BlockingIOError), claimed(place):
            pass
        assert place.exists()
    assert not place.exists()


def test_what_is_not_a_directory_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link", "file/sub"):
        with pytest.raises((FileExistsError, NotADirectoryError)), claimed(tmp_path / name):
            pass


@pytest.mark.parametrize("name", ["a", "é" * 127, "x" * 255])
def test_long_names(tmp_path, name):
    (tmp_path / name).touch()  # the file system takes the name
    with claimed(beside(tmp_path / name)) as workspace:
        assert workspace.parent == tmp_path and workspace.name.startswith(".")
