"""Tests of `lpcompress report` on what the other commands really write."""

import json
import shutil


def test_a_report_of_real_results(run, tiny_classifier, glue_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny_classifier("mrpc", directory=tmp_path / "model")
    scoring = ("--data", glue_dir, "--limit", "8", "--max-drop", "200")
    assert run("compress", model, "--ratio", "0.4", "--eval-glue", "mrpc", *scoring, "--out", "small")[0] == 0
    assert run("eval-glue", model, "--tasks", "mrpc", "--methods", "svd,lp", *scoring, "--out", "scores.json")[0] == 0
    (tmp_path / "inspect.json").write_text(run("inspect", "small", "--json")[1])
    shutil.copytree(glue_dir / "mrpc", "glue/mrpc")
    shutil.copy("glue/mrpc/validation.jsonl", "glue/mrpc/train.jsonl")
    options = ("--max-steps", "1", "--data", "glue", "--limit", "8", "--out", "tuned")
    code, _, err = run("finetune", "small", "--task", "mrpc", *options)
    assert code == 0, err
    files = ("small", "scores.json", "inspect.json", "tuned/finetuning.json")
    code, out, err = run("report", *files, "--out", "pages")
    assert (code, err) == (0, "")
    *headlines, html, markdown = out.splitlines()
    assert len(headlines) == 2 + 1 + 3 + 1  # a report in another document is shown too
    assert (html, markdown) == ("pages/report.html", "pages/report.md")
    assert "lpcompress compress ./model --ratio 0.4" in (tmp_path / html).read_text()
    assert json.loads((tmp_path / "small/lpcompress.json").read_text())["plan"] == {"ratio": 0.4}
    code, _, err = run("report", *files, "--out", "pages")
    assert (code, "pass --overwrite to replace it" in err) == (1, True)
    assert run("report", "small", "--out", "pages", "--overwrite")[0] == 0


def test_an_error_leaves_nothing_behind(run, tmp_path):
    (tmp_path / "x.json").write_text("{}")
    code, out, err = run("report", tmp_path / "x.json", "--out", tmp_path / "pages")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert not (tmp_path / "pages").exists()
