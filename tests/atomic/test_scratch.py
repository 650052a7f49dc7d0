"""Temporary directories: those of the dead go, those of the living stay."""

import gc
import os
import tempfile
import time

import pytest

from lpcompress.atomic import ScratchDirectory


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def scratch(say):
    made = ScratchDirectory()
    (made.path / "tensors.safetensors").write_bytes(bytes(1000))
    say()
    time.sleep(60)


def test_the_next_start_removes_what_killed_processes_left(root, child):
    (root / "lpcompress-results").mkdir()  # somebody else's
    (root / "lpcompress-results" / "thesis.tex").touch()
    kills = [child(scratch) for _ in range(3)]
    assert len(os.listdir(root)) == 4
    for kill in kills[:2]:
        kill()
    made = ScratchDirectory()
    assert len(os.listdir(root)) == 3 and made.path.is_dir()
    kills[2]()
    del made
    ScratchDirectory()
    gc.collect()
    assert os.listdir(root) == ["lpcompress-results"] and (root / "lpcompress-results" / "thesis.tex").exists()


def test_however_many_there_are_one_descriptor_is_open(root):
    before = len(os.listdir("/proc/self/fd"))
    many = [ScratchDirectory() for _ in range(50)]
    assert len({each.path for each in many}) == 50 and len(os.listdir(root)) == 1
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del many
    gc.collect()
    assert os.listdir(root) == [] and len(os.listdir("/proc/self/fd")) == before
