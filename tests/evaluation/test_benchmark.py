"""The protocol on all nine tasks, on tiny checkpoints of all architectures."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import lpcompress
from lpcompress import hub
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.glue.tasks import TASKS

CONTRACT = {"model", "baseline", "average", "baseline_average", "average_drop", "formula", "versions", "tasks"}
TASK_CONTRACT = {
    "model",
    "n",
    "metrics",
    "score",
    "baseline_metrics",
    "baseline_score",
    "drop",
    "recovery",
    "seconds",
}
METRICS = {
    "accuracy": accuracy_score,
    "f1": f1_score,
    "matthews": matthews_corrcoef,
    "pearson": lambda labels, values: pearsonr(labels, values)[0],
    "spearman": lambda labels, values: spearmanr(labels, values)[0],
}


@pytest.fixture
def models(tiny_classifier, tmp_path):
    """A function (architecture, tasks) -> a template of tiny checkpoints."""

    def make(architecture="bert", tasks=tuple(TASKS)):
        for task in tasks:
            tiny_classifier(task, architecture, directory=tmp_path / architecture / task)
        return str(tmp_path / architecture / "{task}")

    return make


def expected_metrics(directory, task, rows):
    """The metrics of a checkpoint, one row at a time, directly from scikit-learn and SciPy."""
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(directory),
        AutoTokenizer.from_pretrained(directory),
    )
    texts = [[row[column] for column in task.columns] for row in rows]
    with torch.inference_mode():
        values = torch.cat([model(**tokenizer(*text, return_tensors="pt")).logits for text in texts]).numpy()
    values = values.argmax(axis=1) if task.classes else values[:, 0]
    return {name: 100 * METRICS[name]([row["label"] for row in rows], values) for name in task.metrics}


@pytest.mark.parametrize("architecture", ["bert", "xlnet"])  # logits of all of them: test_classifier.py
def test_all_nine_tasks_before_and_after(architecture, models, glue_dir, rows_of):
    document = lpcompress.eval_glue(models(architecture), data=glue_dir, ratio=0.3, method="svd")
    assert set(document) >= CONTRACT
    assert list(document["tasks"]) == list(TASKS)
    for key, entry in document["tasks"].items():
        task = TASKS[key]
        assert set(entry) >= TASK_CONTRACT
        assert entry["status"] == "ok", entry
        parts = [expected_metrics(entry["model"], task, rows_of(key, split)) for split in task.splits]
        expected = parts[0] | {f"{name}_mm": value for part in parts[1:] for name, value in part.items()}
        assert entry["baseline_metrics"] == pytest.approx(expected, abs=1e-3)
        assert entry["compression"]["layers"][0]["removed"] >= 0.3
        assert entry["drop"] == pytest.approx(entry["baseline_score"] - entry["score"])
    scores = [entry["score"] for entry in document["tasks"].values()]
    assert document["average"] == pytest.approx(np.mean(scores))
    assert document["without_wnli"]["average"] == pytest.approx(np.mean(scores[:-1]))
    assert document["average_drop"] == pytest.approx(document["baseline_average"] - document["average"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_compressed_in_memory_and_from_a_directory_score_alike(models, glue_dir, tmp_path):
    template = models(tasks=["mrpc"])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "bert/mrpc")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bert/mrpc")
    lpcompress.compress(model, ratio=0.6, method="svd", tokenizer=tokenizer)
    model.save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    here = lpcompress.eval_glue(template, "mrpc", data=glue_dir, ratio=0.6, method="svd")["tasks"]["mrpc"]
    there = lpcompress.eval_glue(tmp_path / "small", "mrpc", data=glue_dir, baseline=template)["tasks"]["mrpc"]
    same = ("metrics", "score", "baseline_score", "drop", "se", "p_value", "agreement")
    assert {key: here[key] for key in same} == {key: there[key] for key in same}
    assert here["agreement"] < 100


def test_methods_are_compared_side_by_side(models, glue_dir):
    template = models(tasks=["mrpc", "stsb"])
    both = lpcompress.eval_glue(
        template, ["mrpc", "stsb"], data=glue_dir, methods=["svd", "messi"], ratio=0.4, clusters=2
    )
    assert list(both["methods"]) == ["svd", "messi"]
    assert not {"tasks", "average", "formula"} & set(both)  # no numbers of one method at the top level
    assert CONTRACT - {"methods"} <= set(both) | set(both["methods"]["svd"])
    for method, document in both["methods"].items():
        alone = lpcompress.eval_glue(
            template, "mrpc", data=glue_dir, method=method, ratio=0.4, **({"clusters": 2} if method == "messi" else {})
        )
        assert document["tasks"]["mrpc"]["metrics"] == alone["tasks"]["mrpc"]["metrics"]
        assert document["settings"]["compression"]["method"] == method


def test_without_compression_there_are_only_scores(models, glue_dir):
    document = lpcompress.eval_glue(models(tasks=["rte"]), "rte", data=glue_dir)
    assert (document["baseline"], document["average_drop"], document["tasks"]["rte"]["drop"]) == (None, None, None)
    assert document["average"] == document["tasks"]["rte"]["score"]


def test_one_failing_task_does_not_stop_the_rest(models, glue_dir, tmp_path):
    template = models(tasks=["mrpc", "rte", "sst2"])
    (tmp_path / "bert/rte/model.safetensors").write_bytes(b"garbage")
    with pytest.warns(UserWarning, match="rte svd failed: .*cannot be loaded"):
        document = lpcompress.eval_glue(template, "mrpc,rte,sst2,qqp", data=glue_dir, method="svd")
    found = {key: entry["status"] for key, entry in document["tasks"].items()}
    assert found == {"sst2": "ok", "mrpc": "ok", "qqp": "not available", "rte": "failed"}
    assert "average over 2 of 9 tasks" in document["formula"]


def test_a_file_leaves_tasks_out(models, glue_dir, tmp_path):
    models(tasks=["mrpc"])
    (tmp_path / "models.yaml").write_text(f"mrpc: {tmp_path}/bert/mrpc\nrte: null\n")
    document = lpcompress.eval_glue(tmp_path / "models.yaml", "mrpc,rte", data=glue_dir)
    assert document["tasks"]["rte"] == {
        "status": "not available",
        "model": None,
        "reason": "no model is named for rte",
    }


def test_if_no_task_can_be_scored_there_are_no_results(glue_dir, tmp_path):
    with pytest.raises(LpCompressError, match=r"cola: .*no such directory.* The other 8 tasks have no score"):
        lpcompress.eval_glue(str(tmp_path / "none/{task}"), data=glue_dir, out=tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


def test_the_diagnostic_set_gives_predictions(models, glue_dir):
    document = lpcompress.eval_glue(models(tasks=["mnli"]), "mnli,ax", data=glue_dir, method="svd")
    entry = document["tasks"]["ax"]
    assert (entry["status"], entry["score"], len(entry["predictions"])) == ("unlabelled", None, 4)
    assert set(entry["predictions"]) <= set(TASKS["mnli"].classes)
    assert document["without_wnli"]["tasks"] == ["mnli"]


def test_a_part_of_the_rows_never_counts_as_all(models, glue_dir, tmp_path):
    template, out = models(tasks=["mrpc"]), tmp_path / "r.json"
    part = lpcompress.eval_glue(template, "mrpc", data=glue_dir, limit=5, out=out)
    assert json.loads(out.read_text()) == part
    whole = lpcompress.eval_glue(template, "mrpc", data=glue_dir, out=out, resume=True)
    assert (part["tasks"]["mrpc"]["n"], whole["tasks"]["mrpc"]["n"]) == (5, 12)
    assert part["settings"]["limit"] == 5


def test_gates_are_in_the_results(models, glue_dir):
    document = lpcompress.eval_glue(models(tasks=["mrpc"]), "mrpc", data=glue_dir, method="svd", max_drop=-200)
    assert document["gates"]["passed"] is False
    assert len(document["gates"]["failures"]) == 2  # the average and the task


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_drop": 1.0}, "need something to compare with. Give a ratio or a baseline"),
        (
            {"baseline": "b", "ratio": 0.3},
            "A model that is compressed here is its own baseline. Leave out baseline, or ratio",
        ),
        ({"resume": True}, "resume needs out"),
        ({"limit": 0}, "limit must be at least 1: maximum number of rows of each split. Got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1: rows per batch. Got 0."),
        ({"batch_size": "32"}, "batch_size must be a whole number: rows per batch. Got '32'."),
        ({"device": "gpu"}, "device must be one of this machine's, such as cpu, cuda or cuda:1. Got 'gpu'."),
        ({"primary": "f1"}, "primary must be a mapping: metric to use as a task's score, such as mrpc=f1. Got 'f1'."),
        ({"primary": {"mrpc": "auc"}}, "Got mrpc=auc."),
        ({"ratio": 28}, "did you mean 0.28?"),
        ({"methods": ["svd"], "method": "lp"}, "method and methods must not be given together"),
        ({"label_map": "none.yaml"}, "none.yaml: cannot be read"),
        ({"tasks": "mprc"}, "did you mean 'mrpc'?"),
        ({"tasks": "all"}, "is one model, fine-tuned on one task"),
        ({"ratoi": 0.3}, "unknown key 'ratoi'; did you mean 'ratio'?"),
    ],
)
def test_an_invalid_option_is_refused_before_any_work(options, sentence):
    with pytest.raises(PlanError) as error:
        lpcompress.eval_glue("no/model", **({"tasks": "mrpc"} | options))
    assert sentence in str(error.value)


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "answers", lambda: asked.append(1))
    with pytest.raises(LpCompressError, match="--data DIR"):
        lpcompress.eval_glue("org/{task}")
    assert asked == [1]
    assert hub.constants.HF_HUB_OFFLINE is False
