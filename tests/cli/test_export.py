"""`lpcompress export`: what is passed on, and what is printed."""

import json

import pytest

from lpcompress.exporting import export as exporting
from lpcompress.exporting.checking import Difference

DONE = exporting.Export(
    *("small", "out", "onnx", True, ["input_ids"], ["logits"], 9_100_000, 26_100_000, 7_500_000, 22_600_000),
    difference=Difference(1e-6, 1e-12, 9),
    seconds=1.5,
)


@pytest.fixture
def asked(monkeypatch):
    """The arguments with which `exporting.export` was called."""
    calls = []
    monkeypatch.setattr(exporting, "export", lambda *arguments: calls.append(arguments) or DONE)
    return calls


def test_what_is_passed_on_and_printed(run, asked):
    code, out, _ = run("export", "small", "out", "--format", "onnx", "--int8", "--overwrite")
    assert code == 0 and [str(each) for each in asked[0][:2]] == ["small", "out"] and asked[0][2:4] == (True, True)
    assert "26.1 MB" in out and "7.5 MB" in out and "which costs 15.1 MB" in out
    code, out, _ = run("export", "small", "out", "--json")
    found = json.loads(out)
    assert code == 0 and asked[1][2:4] == (False, False)
    assert (found["file_bytes_after"], found["coded_bytes"], found["integer_bytes"]) == (
        26_100_000,
        7_500_000,
        22_600_000,
    )
    assert found["difference"]["rows"] == 9


def test_other_formats_are_refused_and_help_names_densify(run, asked):
    code, _, err = run("export", "small", "out", "--format", "gguf")
    assert code == 2 and "onnx" in err and not asked
    assert "lpcompress densify" in run("export", "--help")[1]


def test_missing_packages_take_one_line(run, tiny, one_line, monkeypatch):
    monkeypatch.setattr(exporting, "PACKAGES", ("no_such_package",))
    code, _, err = run("export", tiny, "out")
    assert code == 1 and 'pip install "lpcompress[onnx]"' in one_line(err)
