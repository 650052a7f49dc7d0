"""Directories that are written completely or not at all."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from lpcompress.atomic import atomic_directory, entries, refuse_unwritable_directory, remove_leftovers

LAST = "config.json"
OLD, NEW_FILES = ("a", LAST, "old", "sub/x"), ("a", LAST, "new", "sub/y", "sub/z")


def fill(directory, names, text):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def content(directory):
    return {str(file.relative_to(directory)): file.read_text() for file in directory.rglob("*") if file.is_file()}


BEFORE, AFTER = dict.fromkeys(OLD, "old"), dict.fromkeys(NEW_FILES, "new")


def write(out):
    with atomic_directory(out, LAST) as directory:
        fill(directory, NEW_FILES, "new")


def test_a_directory_appears_when_the_block_succeeds(tmp_path):
    out = tmp_path / "new" / "results"
    with atomic_directory(out) as directory:
        (directory / "sub").mkdir()
        (directory / "sub" / "a.txt").write_text("a")
        assert not out.exists() and out.parent in directory.parents
    assert (out / "sub" / "a.txt").read_text() == "a"
    assert os.listdir(out.parent) == ["results"]
    with atomic_directory(out) as directory:
        (directory / "b.txt").touch()
        assert entries(out) == [out / "sub"]
    assert os.listdir(out) == ["b.txt"] and os.listdir(out.parent) == ["results"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ZeroDivisionError()])
@pytest.mark.parametrize("before", [None, (), OLD])
def test_an_error_in_the_block_keeps_the_old_directory(tmp_path, error, before):
    out = tmp_path / "deep" / "results"
    if before is not None:
        out.mkdir(parents=True)
        fill(out, before, "old")
    with pytest.raises(type(error)), atomic_directory(out) as directory:
        (directory / "new.txt").touch()
        raise error
    if before is None:
        assert os.listdir(tmp_path) == []
    else:
        assert os.listdir(out.parent) == ["results"] and content(out) == dict.fromkeys(before, "old")


@pytest.mark.parametrize("before", [(), OLD])
def test_an_existing_directory_stays_the_same_one(tmp_path, before):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o2750)
    fill(out, before, "old")
    (out / "lost+found").mkdir()
    first = out.stat()
    write(out)
    assert content(out) == AFTER and (out / "lost+found").is_dir()
    now = out.stat()
    assert (now.st_ino, now.st_mode, now.st_uid, now.st_gid) == (
        first.st_ino,
        first.st_mode,
        first.st_uid,
        first.st_gid,
    )


def moments(monkeypatch, act):
    """Let `act` happen at the n-th move of a file or directory, for n = 0, 1, ...; yield until it never happens."""
    real = Path.rename
    for moment in range(100):
        count, happened = iter(range(1000)), []

        def rename(self, target, moment=moment, count=count, happened=happened):
            if next(count) == moment:
                happened.append(moment)
                act()
            return real(self, target)

        monkeypatch.setattr(Path, "rename", rename)
        yield happened
        monkeypatch.setattr(Path, "rename", real)
        if not happened:
            return


@pytest.mark.parametrize("before", [None, (), OLD])
@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV, errno.EIO])
def test_a_failing_move_is_undone(tmp_path, monkeypatch, before, code):
    def fail():
        raise OSError(code, os.strerror(code))

    failed = 0
    for number, happened in enumerate(moments(monkeypatch, fail)):
        out = tmp_path / str(number) / "out"
        if before is not None:
            out.mkdir(parents=True)
            fill(out, before, "old")
        try:
            write(out)
        except OSError:
            failed += 1
            assert happened and (content(out) == dict.fromkeys(before, "old") if before is not None else True)
            assert before is not None or not out.parent.exists()
        else:
            assert not happened and content(out) == AFTER
    assert failed == {None: 1, (): 5, OLD: 9}[before]


@pytest.mark.parametrize("before", [None, (), OLD])
def test_a_kill_at_any_move_leaves_nothing_that_looks_finished(tmp_path, monkeypatch, outcome_of, before):
    last = None
    for number in range(100):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        if before is not None:
            out.mkdir()
            fill(out, before, "old")

        def killed_at_move(number=number, out=out):
            real, count = Path.rename, iter(range(1000))

            def rename(self, target):
                if next(count) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(self, target)

            monkeypatch.setattr(Path, "rename", rename)
            write(out)

        last = outcome_of(killed_at_move)
        if (out / LAST).exists():
            visible = {name: text for name, text in content(out).items() if not name.startswith(".lpcompress")}
            assert visible in (BEFORE, AFTER)
        remove_leftovers(out, LAST)
        assert os.listdir(out.parent) == ["out"] if out.exists() else os.listdir(out.parent) == []
        if out.exists():
            assert content(out) in (dict.fromkeys(before or (), "old"), AFTER)
        write(out)
        assert content(out) == AFTER and os.listdir(out.parent) == ["out"]
        if last == 0:
            break
    assert last == 0 and number == {None: 1, (): 5, OLD: 9}[before]


def holding(out):
    def work(say):
        with atomic_directory(out, LAST) as directory:
            fill(directory, NEW_FILES, "theirs")
            say()
            time.sleep(60)

    return work


@pytest.mark.parametrize("exists", [False, True])
def test_what_another_process_writes_is_kept(tmp_path, child, exists):
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    kill = child(holding(out))
    for act in (remove_leftovers, refuse_unwritable_directory):
        with pytest.raises(BlockingIOError):
            act(out)
    kill()
    remove_leftovers(out)
    refuse_unwritable_directory(out)
    assert os.listdir(tmp_path) == ["out"] * exists


def test_what_appears_meanwhile_is_not_replaced(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(OSError, match="not empty"), atomic_directory(out) as directory:
        (directory / "mine").touch()
        fill(out, OLD, "theirs")
    assert content(out) == dict.fromkeys(OLD, "theirs") and os.listdir(tmp_path) == ["out"]


def test_leftovers_of_a_directory_that_was_made_afterwards(tmp_path, child):
    out = tmp_path / "out"
    child(holding(out))()
    assert os.listdir(tmp_path) == [".out.lpcompress"]
    out.mkdir()
    remove_leftovers(out)
    assert os.listdir(tmp_path) == ["out"]
