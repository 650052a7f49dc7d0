"""The eval-glue command: killed, resumed, shared by processes, gated."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from lpcompress.glue.tasks import TASKS

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
SOME = "cola,stsb,mnli,wnli"
ACCELERATE = ("accelerate.commands.accelerate_cli", "launch", "--multi_gpu")  # starts plain processes without a GPU


@pytest.fixture
def template(tiny_classifier, tmp_path):
    """A tiny checkpoint for each of the nine tasks."""
    for task in TASKS:
        tiny_classifier(task, directory=tmp_path / "models" / task, num_hidden_layers=1)
    return str(tmp_path / "models/{task}")


def command(*arguments):
    return [sys.executable, "-m", "lpcompress", *map(str, arguments)]


def timeless(value):
    """A document without the values that differ in every run."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in ("seconds", "date")}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def read(path):
    return timeless(json.loads(path.read_text()))


def test_a_resumed_run_writes_the_file_of_an_uninterrupted_one(run, template, glue_dir, tmp_path):
    arguments = ("eval-glue", template, "--tasks", SOME, "--methods", "svd,lp", "--data", glue_dir)
    out, parts = tmp_path / "r.json", tmp_path / "r.json.parts"
    process = subprocess.Popen(
        command(*arguments, "--out", out),
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(list(parts.glob("*.json"))) < 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {path: path.read_text() for path in parts.glob("*.json")}
    assert 2 <= len(kept) < 12
    assert not out.exists()
    code, _, err = run(*arguments, "--out", out, "--resume")
    assert code == 0, err
    assert {path: path.read_text() for path in kept} == kept  # reused unchanged
    assert len(list(parts.iterdir())) == 12
    code, _, err = run(*arguments, "--out", tmp_path / "undisturbed.json")
    assert code == 0, err
    assert read(out) == read(tmp_path / "undisturbed.json")


def test_two_processes_give_the_scores_of_one_to_the_last_digit(run, template, glue_dir, tmp_path, two_processes):
    arguments = ("eval-glue", template, "--ratio", "0.4", "--method", "svd", "--data", glue_dir, "--batch-size", "3")
    arguments += ("--layers", "all", "--tasks", SOME)
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    done = two_processes("-m", "lpcompress", *arguments, "--json", "--out", tmp_path / "r.json", launcher=ACCELERATE)
    assert done.returncode == 0, done.stderr
    assert timeless(json.loads(done.stdout)) == timeless(json.loads(out)) == read(tmp_path / "r.json")


def test_compress_writes_the_same_from_two_processes(run, template, glue_dir, tmp_path, two_processes):
    (tmp_path / "text.txt").write_text("the company said\nthat shares rose on friday\n")
    arguments = ("compress", template.format(task="mrpc"), "--layers", "all", "--target-size", "0.7", "--json")
    arguments += ("--calibration", tmp_path / "text.txt", "--eval-glue", "mrpc", "--data", glue_dir, "--out")
    code, out, err = run(*arguments, tmp_path / "one")
    assert code == 0, err
    done = two_processes("-m", "lpcompress", *arguments, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    first, second = (timeless(json.loads(text)) for text in (out, done.stdout))
    for document in (first, second):  # the report holds times, the card the name of its directory
        del document["digests"]["report"], document["digests"]["files"]["README.md"]
    assert {key for key in first if first[key] != second[key]} == {"out", "peak_rss_bytes"}
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    done = two_processes("-m", "lpcompress", *arguments, tmp_path / "two")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("exists. Choose another directory") == 1


def test_without_hub_and_data_it_fails_at_once(fresh_python, tmp_path):
    script = """
import sys, time
import lpcompress.evaluation.benchmark, lpcompress.hub
from lpcompress.cli.app import main
lpcompress.hub.PROBE_SECONDS /= 5
sys.argv = ["lpcompress", "eval-glue", "org/bert-{TASK}", "--ratio", "0.28"]
began = time.monotonic()
try:
    main()
except SystemExit as end:
    print(time.monotonic() - began, end.code)
"""
    done = fresh_python(script, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path))
    seconds, code = done.stdout.split()  # nothing else is printed
    assert float(seconds) < 12  # it gives up after 2 s; the rest is for a busy machine
    assert code == "1"
    assert "--data DIR" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_gate_fails_after_the_results_are_written(run, template, glue_dir, tmp_path):
    arguments = ("eval-glue", template, "--tasks", "mrpc,rte", "--method", "svd", "--data", glue_dir)
    gates = ("--max-drop", "rte=-200", "--max-drop", "200")
    code, out, err = run(*arguments, *gates, "--out", tmp_path / "r.json", "--json")
    assert code == 3
    document = json.loads(out)
    assert document == json.loads((tmp_path / "r.json").read_text())
    assert document["gates"]["failures"] == [err.splitlines()[-1].removeprefix("Gate: ")]
    assert "rte: drop" in err


@pytest.mark.filterwarnings("default:rte svd failed")
def test_a_failed_task_is_in_the_table_and_in_the_exit_code(run, template, glue_dir, tmp_path):
    (tmp_path / "models/rte/config.json").write_text("{")
    code, out, err = run("eval-glue", template, "--tasks", "mrpc,rte", "--method", "svd", "--data", glue_dir)
    assert code == 1
    assert "rte svd failed:" in err.splitlines()[-1]
    assert "without fine-tuning" in out
    assert "failed" in out
    assert "average over 1 of 9 tasks = (MRPC (accuracy + F1)/2) / 1" in out


def test_compress_writes_the_scores_into_report_and_card(run, template, glue_dir, tmp_path):
    model, small = template.format(task="mnli"), tmp_path / "small"
    arguments = ("compress", model, "--method", "svd", "--ratio", "0.4", "--out", small)
    code, out, err = run(*arguments, "--eval-glue", "mnli", "--data", glue_dir)
    assert code == 0, err
    assert "GLUE, without fine-tuning" in out
    scores = json.loads((small / "lpcompress.json").read_text())["glue"]
    _, beside, _ = run("eval-glue", small, "--baseline", model, "--tasks", "mnli", "--data", glue_dir, "--json")
    entry = json.loads(beside)["tasks"]["mnli"]
    for key in ("metrics", "score", "baseline_score", "drop", "se", "agreement", "splits"):
        assert scores["tasks"]["mnli"][key] == entry[key]
    card = ModelCard.load(small / "README.md")
    found = {each.dataset_split: each for each in card.data.eval_results}
    assert set(found) == {"validation_matched", "validation_mismatched"}
    assert found["validation_mismatched"].metric_value == round(entry["metrics"]["accuracy_mm"], 4)
    assert found["validation_matched"].dataset_config == "mnli"
    assert card.data.model_name == "small"
    assert "lpcompress" in card.data.tags
    assert "| mnli | 21 | accuracy + accuracy_mm |" in card.text


def test_a_headless_model_is_refused_and_nothing_is_written(run, tiny_model, tokenizer, glue_dir, tmp_path):
    tiny_model("roberta", "base").save_pretrained(tmp_path / "base")
    tokenizer("roberta").save_pretrained(tmp_path / "base")
    for arguments in (("eval-glue", "--tasks"), ("compress", "--out", tmp_path / "out", "--eval-glue")):
        code, out, err = run(arguments[0], tmp_path / "base", *arguments[1:], "mrpc", "--data", glue_dir)
        assert (code, out) == (1, "")
        assert "has no trained head for mrpc" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
