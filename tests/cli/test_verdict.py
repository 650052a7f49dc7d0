"""What follows an evaluation: files for CI, the job summary, annotations."""

import json
from xml.etree import ElementTree as Xml

import pytest

from lpcompress.cli.verdict import GITHUB, SUMMARY


@pytest.fixture
def scored(tiny_classifier, glue_dir, tmp_path):
    """Arguments that score a tiny model before and after."""
    model = tiny_classifier("mrpc")
    return ("eval-glue", model, "--tasks", "mrpc", "--method", "svd", "--data", glue_dir, "--limit", "8")


def test_eval_glue_writes_the_files_for_ci(run, scored, tmp_path):
    files = ("--junit", tmp_path / "ci/junit.xml", "--markdown", tmp_path / "ci/glue.md")
    code, out, err = run(*scored, *files, "--max-drop", "-200", "--json")
    assert (code, json.loads(out)["gates"]["passed"]) == (3, False)
    root = Xml.parse(tmp_path / "ci/junit.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    assert "**A gate failed:**" in (tmp_path / "ci/glue.md").read_text()
    assert "::error" not in err


def test_compress_writes_them_too(run, scored, tmp_path):
    arguments = ("compress", scored[1], "--eval-glue", *scored[3:], "--out", tmp_path / "small")
    code, _, err = run(*arguments, "--junit", tmp_path / "junit.xml", "--markdown", tmp_path / "glue.md")
    assert code == 0, err
    assert Xml.parse(tmp_path / "junit.xml").getroot().get("tests") == "1"
    assert "| mrpc | 8 |" in (tmp_path / "glue.md").read_text()


def test_in_github_actions_the_job_is_summarized_and_failed_gates_annotated(run, scored, monkeypatch, tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("of an earlier step\n")
    monkeypatch.setenv(GITHUB, "true")
    monkeypatch.setenv(SUMMARY, str(summary))
    code, _, err = run(*scored, "--max-drop", "mrpc=-200")
    assert code == 3
    assert summary.read_text().startswith("of an earlier step\n### GLUE, without fine-tuning")
    [line] = [line for line in err.splitlines() if line.startswith("::")]
    assert line.startswith("::error title=lpcompress gate::mrpc: drop ") and line.endswith(" exceeds -200")
    monkeypatch.setenv(SUMMARY, str(tmp_path))  # no file
    code, _, err = run(*scored)
    assert (code, f"Warning: {SUMMARY}={tmp_path} cannot be written: Is a directory." in err) == (0, True)
    assert not [line for line in err.splitlines() if line.startswith("::")]


def test_a_file_that_cannot_be_written_is_refused_before_the_work(run, tmp_path):
    for option in ("--junit", "--markdown"):
        code, out, err = run("eval-glue", "org/none", "--tasks", "mrpc", option, tmp_path)
        assert (code, out) == (1, "")
        assert err == f"Error: {tmp_path} must be a file for the results. It is a directory.\n"
