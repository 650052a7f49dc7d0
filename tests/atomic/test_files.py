"""Files that are written completely or not at all."""

import os
import time

import pytest

from lpcompress.atomic import beside, claimed, files, refuse_unwritable, write_atomically
from lpcompress.errors import LpCompressError


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path, child):
    path = tmp_path / "a.yaml"

    def half(say):
        with claimed(beside(path)) as workspace:
            (workspace / "new").write_text("half")
            say()
            time.sleep(60)

    child(half)()
    assert os.listdir(tmp_path) == [".a.yaml.lpcompress"]
    write_atomically(path, "whole")
    assert os.listdir(tmp_path) == ["a.yaml"] and path.read_text() == "whole"


def test_a_failed_write_keeps_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "flush", full)
    for each in (path, tmp_path / "deep" / "b.json"):
        with pytest.raises(LpCompressError, match=r"cannot be written: No space left on device\. Choose another file"):
            write_atomically(each, "new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.json", "old")]


def test_permissions_and_links_stay(tmp_path):
    path, link = tmp_path / "a.json", tmp_path / "link.json"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to("a.json")
    write_atomically(link, "new")
    assert link.is_symlink() and path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "plan.yaml"
    refuse_unwritable(path, overwrite=False)
    path.write_text("theirs")
    for act in (refuse_unwritable, lambda *args: write_atomically(path, "mine", args[1])):
        with pytest.raises(LpCompressError, match=r"exists\. Choose another file, or pass --overwrite"):
            act(path, False)
    assert path.read_text() == "theirs" and os.listdir(tmp_path) == ["plan.yaml"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "must be a file for the results. It is a directory"),
        ("file/r.json", "file is not a directory you may write to"),
        ("x" * 300, "cannot be written: File name too long"),
        ("/dev/null", "It is a device or a pipe"),
        ("/proc/r.json", "/proc/r.json cannot be written"),
    ],
)
def test_an_unwritable_path_is_refused(tmp_path, name, message):
    refuse_unwritable(tmp_path / "new/r.json")
    (tmp_path / "file").touch()
    with pytest.raises(LpCompressError, match=message):
        refuse_unwritable(tmp_path / name)
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_found_before_the_work(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "probe", full)
    with pytest.raises(LpCompressError, match="No space left"):
        refuse_unwritable(tmp_path / "r.json")
    assert os.listdir(tmp_path) == []
