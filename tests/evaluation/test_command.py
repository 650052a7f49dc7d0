"""The command line of eval-glue in processes of its own: killed, resumed, shared, gated."""

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
ACCELERATE = ("accelerate.commands.accelerate_cli", "launch", "--multi_gpu")  # starts plain processes without a GPU


@pytest.fixture
def template(tiny_classifier, tmp_path):
    """A tiny checkpoint for each of the nine tasks."""
    for task in TASKS:
        tiny_classifier(task, directory=tmp_path / "models" / task)
    return str(tmp_path / "models/{task}")


def command(*arguments):
    return [sys.executable, "-m", "lpcompress", *map(str, arguments)]


def run(*arguments, **environment):
    env = os.environ | ENVIRONMENT | environment
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=env, timeout=300)


def timeless(value):
    """A document without what differs between two runs by nature."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in ("seconds", "date")}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def read(path):
    return timeless(json.loads(path.read_text()))


def test_a_killed_run_that_is_resumed_ends_in_the_same_file(template, glue_dir, tmp_path):
    wish = ("eval-glue", template, "--methods", "svd,lp", "--data", glue_dir)
    done = run(*wish, "--out", tmp_path / "undisturbed.json")
    assert done.returncode == 0, done.stderr
    out, parts = tmp_path / "r.json", tmp_path / "r.json.parts"
    process = subprocess.Popen(
        command(*wish, "--out", out), env=os.environ | ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(list(parts.glob("*.json"))) < 4:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {path: path.read_text() for path in parts.glob("*.json")}
    assert 4 <= len(kept) < 27
    assert not out.exists()
    done = run(*wish, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert read(out) == read(tmp_path / "undisturbed.json")
    assert {path: path.read_text() for path in kept} == kept  # taken as they were
    assert len(list(parts.iterdir())) == 27


def test_two_processes_give_the_scores_of_one_to_the_last_digit(template, glue_dir, tmp_path, two_processes):
    wish = ("eval-glue", template, "--ratio", "0.4", "--method", "svd", "--data", glue_dir, "--batch-size", "3")
    wish += ("--layers", "all")
    alone = run(*wish, "--json")
    assert alone.returncode == 0, alone.stderr
    done = two_processes("-m", "lpcompress", *wish, "--json", "--out", tmp_path / "r.json", launcher=ACCELERATE)
    assert done.returncode == 0, done.stderr
    assert timeless(json.loads(done.stdout)) == timeless(json.loads(alone.stdout)) == read(tmp_path / "r.json")


def test_compress_writes_the_same_from_two_processes(template, glue_dir, tmp_path, two_processes):
    (tmp_path / "text.txt").write_text("the company said\nthat shares rose on friday\n")
    wish = ("compress", template.format(task="mrpc"), "--layers", "all", "--target-size", "0.7", "--json")
    wish += ("--calibration", tmp_path / "text.txt", "--eval-glue", "mrpc", "--data", glue_dir, "--out")
    alone = run(*wish, tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    done = two_processes("-m", "lpcompress", *wish, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(each.stdout) for each in (alone, done))
    assert {key for key in timeless(first) if timeless(first)[key] != timeless(second)[key]} == {
        "out",
        "peak_rss_bytes",
    }
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    done = two_processes("-m", "lpcompress", *wish, tmp_path / "two")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("exists. Choose another directory") == 1


def test_without_hub_and_data_it_says_so_at_once(tmp_path):
    began = time.monotonic()
    done = run("eval-glue", "org/bert-{TASK}", "--ratio", "0.28", HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path))
    assert time.monotonic() - began < 30  # 10 s of patience, and the imports of a busy machine
    assert (done.returncode, done.stdout) == (1, "")
    assert "--data DIR" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_gate_fails_after_the_results_are_written(template, glue_dir, tmp_path):
    wish = ("eval-glue", template, "--tasks", "mrpc,rte", "--method", "svd", "--data", glue_dir)
    done = run(*wish, "--max-drop", "rte=-200", "--max-drop", "200", "--out", tmp_path / "r.json", "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "r.json").read_text())
    assert document["gates"]["failures"] == [done.stderr.splitlines()[-1].removeprefix("Gate: ")]
    assert "rte: drop" in done.stderr


def test_a_failed_task_is_in_the_table_and_in_the_exit_code(template, glue_dir, tmp_path):
    (tmp_path / "models/rte/config.json").write_text("{")
    done = run("eval-glue", template, "--tasks", "mrpc,rte", "--method", "svd", "--data", glue_dir)
    assert done.returncode == 1
    assert "rte svd failed:" in done.stderr.splitlines()[-1]
    assert "without fine-tuning" in done.stdout
    assert "failed" in done.stdout
    assert "average over 1 of 9 tasks = (MRPC (accuracy + F1)/2) / 1" in done.stdout


def test_compress_writes_the_scores_into_report_and_card(template, glue_dir, tmp_path):
    model, out = template.format(task="mnli"), tmp_path / "small"
    wish = ("compress", model, "--method", "svd", "--ratio", "0.4", "--out", out)
    done = run(*wish, "--eval-glue", "mnli", "--data", glue_dir)
    assert done.returncode == 0, done.stderr
    assert "GLUE, without fine-tuning" in done.stdout
    scores = json.loads((out / "lpcompress.json").read_text())["glue"]
    beside = run("eval-glue", out, "--baseline", model, "--tasks", "mnli", "--data", glue_dir, "--json")
    entry = json.loads(beside.stdout)["tasks"]["mnli"]
    for key in ("metrics", "score", "baseline_score", "drop", "se", "agreement", "splits"):
        assert scores["tasks"]["mnli"][key] == entry[key]
    card = ModelCard.load(out / "README.md")
    found = {each.dataset_split: each for each in card.data.eval_results}
    assert set(found) == {"validation_matched", "validation_mismatched"}
    assert found["validation_mismatched"].metric_value == round(entry["metrics"]["accuracy_mm"], 4)
    assert found["validation_matched"].dataset_config == "mnli"
    assert card.data.model_name == "small"
    assert "lpcompress" in card.data.tags
    assert "| mnli | 21 | accuracy + accuracy_mm |" in card.text


def test_a_headless_model_is_refused_and_nothing_is_written(tiny_model, tokenizer, glue_dir, tmp_path):
    tiny_model("roberta", "base").save_pretrained(tmp_path / "base")
    tokenizer("roberta").save_pretrained(tmp_path / "base")
    for wish in (("eval-glue", "--tasks"), ("compress", "--out", tmp_path / "out", "--eval-glue")):
        done = run(wish[0], tmp_path / "base", *wish[1:], "mrpc", "--data", glue_dir)
        assert (done.returncode, done.stdout) == (1, "")
        assert "has no trained head for mrpc" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
