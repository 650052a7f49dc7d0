"""Tests of `lpcompress compress`: options, results and files."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import BertModel

from lpcompress.checkpoints import files, loading
from lpcompress.compression import whole_model
from lpcompress.config.plan import Plan
from lpcompress.errors import LpCompressError


@pytest.mark.filterwarnings("always")
def test_sketching_warns_in_one_line_and_saves(run, tiny):
    code, out, err = run("compress", tiny, "--method", "sketch", "--layers", "linear", "--json")
    assert code == 0
    [line] = [line for line in err.splitlines() if line.startswith("Warning")]
    assert "lpcompress finetune" in line
    assert json.loads(out)["warnings"] == [line.removeprefix("Warning: ")]


OPTIONS = "--p 1.5 --ratio 0.5 --clusters 2 --row-weights counts.txt --exponent 0.7 --seed 3 --device cpu"


def test_options_take_effect(run, tiny):
    Path("counts.txt").write_text("3\n" * 200)
    Path("plan.yaml").write_text("method: messi\nratio: 0.4\n")
    options = (*OPTIONS.split(), "--layers", "*word_embeddings", "--layers", "pooler.dense", "--json")
    code, out, err = run("compress", tiny, "--config", "plan.yaml", *options)
    assert code == 0, err
    record = json.loads(out)
    assert [layer["name"] for layer in record["layers"]] == ["embeddings.word_embeddings", "pooler.dense"]
    assert {(layer["method"], layer["p"], layer["clusters"]) for layer in record["layers"]} == {("messi", 1.5, 2)}
    assert all(layer["removed"] >= 0.5 for layer in record["layers"])
    assert (record["layers"][0]["row_weights"], record["seed"]) == ("counts (counts.txt)", 3)


def test_every_option_of_a_plan_reaches_the_function(run, tiny, monkeypatch):
    passed = {}

    def stop(model, plan, **others):
        passed.update(others, plan=plan)
        raise LpCompressError("stop here")

    monkeypatch.setattr(whole_model, "compress", stop)
    Path("counts.txt").write_text("word1 3\n")
    Path("plan.yaml").write_text("method: messi\nratio: 0.4\n")
    options = (*OPTIONS.split(), "--layers", "a*", "--layers", "b", "--calibration", "text.txt", "--data", "DIR")
    code, out, err = run("compress", tiny, "--config", "plan.yaml", *options)
    assert (code, out, err.strip().splitlines()[-1]) == (1, "", "Error: stop here")
    options = {"row_weights": "counts.txt", "layers": ("a*", "b"), "calibration": "text.txt"}
    assert passed["plan"] == Plan(method="messi", p=1.5, ratio=0.5, clusters=2, exponent=0.7, seed=3, **options)
    assert (passed["device"], passed["data"], passed["tokenizer"].vocab_size) == ("cpu", "DIR", 200)
    assert not Path("tiny-lpcompress").exists()


@pytest.mark.parametrize("value", ["0", "0.0"])
def test_a_zero_on_the_command_line_counts(run, tiny, value):
    Path("plan.yaml").write_text("method: svd\nexponent: 1\n")
    code, _, _ = run("compress", tiny, "--config", "plan.yaml", "--exponent", value, "--save-plan", "again.yaml")
    assert (code, Plan.from_yaml("again.yaml").exponent) == (0, 0.0)


def test_the_model_itself_is_not_replaced(run, tiny):
    before = {file: file.read_bytes() for file in Path(tiny).iterdir()}
    code, _, err = run("compress", tiny, "--method", "svd", "--out", tiny, "--overwrite")
    assert (code, "is the directory of" in " ".join(err.split())) == (1, True)
    assert {file: file.read_bytes() for file in Path(tiny).iterdir()} == before


def test_output_options_take_effect(run, tiny):
    assert run("compress", tiny, "--method", "svd")[0] == 0
    Path("tiny-lpcompress/NOTICE.old").touch()
    options = ("--method", "svd", "--max-shard-size", "6KB", "--stub", "--overwrite")
    code, _, err = run("compress", tiny, *options)
    assert code == 0, err
    shards = files.weight_files(Path("tiny-lpcompress"))
    assert len(shards) > 1
    assert not Path("tiny-lpcompress/NOTICE.old").exists()
    assert "auto_map" in json.loads(Path("tiny-lpcompress/config.json").read_text())
    code, _, err = run("compress", tiny, "--method", "svd", "--out", "plain")
    assert (code, len(files.weight_files(Path("plain")))) == (0, 1)
    assert "auto_map" not in json.loads(Path("plain/config.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ratio", "28"], "Got 28; did you mean 0.28?"),
        (["--p", "3"], "p must be from 1 to 2: exponent of the l_p norm to minimize. Got 3."),
        (["--method", "codd"], "did you mean 'coded'?"),
        (["--method", "sketch", "--clusters", "2"], "has one subspace"),
        (["--clusters", "0"], "clusters must be at least 1: number of subspaces. Got 0"),
        (["--row-weights", "zpif"], "did you mean 'zipf'?"),
        (
            ["--exponent", "3"],
            "exponent must be from 0 to 2: exponent applied to token frequency to get row weights",
        ),
        (["--seed", "-1"], "seed must be from 0 to"),
        (
            ["--max-shard-size", "foo"],
            "max_shard_size must be a size such as 40MB or 40000000: largest size of a weight file",
        ),
        (["--max-shard-size", "0"], "Got '0'"),
        (["--max-shard-size", "-5MB"], "Got '-5MB'"),
        (["--max-bytes", "9" * 400], "max_bytes must be a size such as 40MB or 40000000"),
        (["--config", "none.yaml"], "none.yaml: cannot be read"),
        (["--layers", ""], "layers must name at least one pattern"),
        (["--target-size", "70"], "did you mean 0.7?"),
        (["--ratio", "0.3", "--max-bytes", "40MB"], "ratio and max_bytes must not be given together"),
        (["--limit", "0"], "limit must be at least 1"),
        (
            ["--max-drop", "1"],
            "max_drop, min_recovery, junit and markdown need scores. Name MODEL's task with --eval-glue.",
        ),
        (["--junit", "j.xml"], "Name MODEL's task with --eval-glue."),
        (["--max-drop", "rte=much", "--eval-glue", "rte"], "max_drop.rte must be a number"),
    ],
)
def test_an_invalid_option_is_one_line_and_exit_code_2(run, arguments, sentence):
    code, out, err = run("compress", "no-such-model", *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert sentence in err


def test_an_existing_output_is_refused_before_any_work(run, tiny, monkeypatch, one_line):
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("work was done"))
    Path("out").mkdir()
    Path("out/kept").touch()
    code, out, err = run("compress", tiny, "--out", "out")
    assert (code, out) == (1, "")
    assert "--overwrite" in one_line(err)
    assert Path("out/kept").exists()


@pytest.mark.parametrize("command", ["compress", "inspect"])
@pytest.mark.parametrize("model", ["./no-such-dir", "no such model", "org/no-such-model", "", "a/b/c"])
def test_a_missing_model_is_one_line(run, tmp_path, monkeypatch, command, model, one_line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, err = run(command, model)
    assert (code, out) == (1, "")
    assert one_line(err).startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_pattern_that_matches_nothing_is_named(run, tiny, one_line):
    code, _, err = run("compress", tiny, "--layers", "*.word_embedings")
    assert code == 1
    assert "word_embedings" in one_line(err)
    assert "word_embeddings" in one_line(err)


def test_compress_then_inspect_and_densify(run, tiny):
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
    assert [layer["kind"] for layer in record["layers"]] == 2 * ["embedding"] + 7 * ["linear"]
    assert record["skipped"] == {}
    assert "with 2 embeddings and 7 linear layers replaced" in Path("tiny-lpcompress/README.md").read_text()
    code, out, _ = run("inspect", "tiny-lpcompress", "--json")
    groups = {group["name"]: group for group in json.loads(out)["groups"]}
    assert groups["encoder.layer.*.intermediate.dense"]["shape"] == [24, 16]
    assert groups["encoder.layer.*.intermediate.dense"]["kind"] == "FactoredLinear"
    assert run("densify", "tiny-lpcompress", "plain")[0] == 0
    assert type(BertModel.from_pretrained("plain").encoder.layer[0].output.dense).__name__ == "Linear"


def tensor_bytes(file):
    """Return the size of a weight file without its header, which lists the digests of all tensors."""
    return file.stat().st_size - 8 - int.from_bytes(file.read_bytes()[:8], "little")


def test_shards_are_no_larger_than_those_of_the_model(run, tiny):
    weights = loading.load(tiny)[0]
    weights.save_pretrained(tiny, max_shard_size="6KB")
    (Path(tiny) / "model.safetensors").unlink()
    largest = max(file.stat().st_size for file in files.weight_files(Path(tiny)))
    code, _, err = run("compress", tiny, "--method", "svd", "--layers", "all")
    assert code == 0, err
    shards = files.weight_files(Path("tiny-lpcompress"))
    assert len(shards) > 1 and "Unable" not in err and "offload" not in err
    assert all(tensor_bytes(shard) <= largest for shard in shards)
    assert type(loading.load("tiny-lpcompress")[0].pooler.dense).__name__ == "FactoredLinear"


def test_a_dry_run_writes_nothing(run, tiny, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run("compress", tiny, "--dry-run")
    assert (code, "embeddings.word_embeddings" in out) == (0, True)
    code, out, _ = run("compress", tiny, "--dry-run", "--json")
    (layer,) = json.loads(out)
    assert (code, layer["shape"], layer["bytes_before"]) == (0, [200, 16], 200 * 16 * 4)
    assert layer["bytes_budget"] == int(0.72 * 200 * 16 * 4)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_saved_plan_compresses_to_the_requested_size(run, tiny, tmp_path):
    plan, out, again = tmp_path / "plan.yaml", tmp_path / "out", tmp_path / "again"
    size = ("--target-size", "0.8", "--method", "sparse")
    code, text, _ = run("compress", tiny, *size, "--save-plan", str(plan), "--json")
    (layer,) = json.loads(text)
    assert (code, layer["method"], layer["bytes_budget"] < layer["bytes_before"]) == (0, "coded", True)  # its name now
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


def test_a_gate_is_exit_code_3_after_the_results_are_written(run, tiny_classifier, glue_dir, tmp_path):
    model = tiny_classifier("mrpc")
    options = ("--method", "svd", "--ratio", "0.3", "--data", glue_dir, "--eval-glue", "mrpc", "--json")
    code, out, err = run("compress", model, *options, "--out", tmp_path / "out", "--max-drop", "-200")
    assert (code, "Gate: mrpc: drop" in err) == (3, True)
    assert json.loads(out) == json.loads((tmp_path / "out/lpcompress.json").read_text())
    assert run("compress", model, *options, "--out", tmp_path / "again", "--max-drop", "200")[0] == 0


def test_an_error_in_the_file_is_reported_even_if_the_command_line_overrides_it(run, tmp_path):
    (tmp_path / "plan.yaml").write_text("ratio: 28\n")
    code, _, err = run("compress", "x", "--config", tmp_path / "plan.yaml", "--ratio", "0.5")
    assert (code, f"Error: {tmp_path}/plan.yaml: ratio must be" in err) == (2, True)


def test_verbose_prints_a_line_for_every_layer(run, tiny, tmp_path):
    options = ("--method", "svd", "--layers", "all", "--overwrite")
    for arguments in (("-v", "compress", tiny, *options), ("compress", tiny, *options, "--verbose")):
        code, _, err = run(*arguments)
        lines = [line for line in err.splitlines() if "bytes removed, relative error" in line]
        assert (code, len(lines)) == (0, 9)
        assert lines[0].startswith("embeddings.word_embeddings: svd, ")
    assert "bytes removed" not in run("compress", tiny, *options)[2]


@pytest.mark.filterwarnings("always")
def test_quiet_prints_only_results_and_errors(run, tiny):
    options = ("compress", tiny, "--method", "sketch", "--layers", "linear", "--json")
    for arguments in (("-q", *options, "--out", "a"), (*options, "-q", "--out", "b")):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert json.loads(out)["warnings"]
    code, out, err = run("--quiet", *options, "--out", "b")
    assert (code, out) == (1, "")
    assert "b exists." in err and len(err.splitlines()) == 1
