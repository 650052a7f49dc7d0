"""Fine-tuning tiny classifiers on the test rows: what is trained, kept, resumed and refused."""

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import lpcompress
from lpcompress.checkpoints import loading, saving
from lpcompress.checkpoints.files import CARD_FILE
from lpcompress.compression.card import model_card
from lpcompress.compression.report import CheckpointReport
from lpcompress.compression.verification import verify
from lpcompress.compression.whole_model import compress
from lpcompress.errors import LpCompressError, NeedsTrainingWarning, PlanError
from lpcompress.evaluation.examination import Examination
from lpcompress.finetuning.run import finetune
from lpcompress.finetuning.state import State
from lpcompress.nn import SketchedLinear, is_compressed_module
from lpcompress.nn.residence import RESIDENCES

QUICK = {"split": "validation", "max_steps": 3, "batch_size": 4, "device": "cpu"}
LEARNING = QUICK | {"max_steps": 150, "batch_size": 8, "learning_rate": 1e-2}


@pytest.fixture
def compressed_classifier(tiny_classifier, tmp_path):
    """A function (task, architecture, method, layers, config) -> directories of a compressed and of its dense model."""

    def make(task="mrpc", architecture="bert", method="svd", layers=("embedding",), **config):
        dense, small = tiny_classifier(task, architecture, **config), tmp_path / f"small-{architecture}-{task}"
        model, tokenizer = loading.load(str(dense))
        done = compress(model, ratio=0.3, method=method, layers=layers, tokenizer=tokenizer)
        done = replace(done, warnings=["not trained yet"])
        with saving.new_checkpoint(small) as directory:
            saving.write(directory, model, tokenizer)
            report = CheckpointReport.of(done, model=str(dense), out=small, before=1, after=1)
            report.write(directory)
            (directory / CARD_FILE).write_text(model_card(report, "AutoModel"), encoding="utf-8")
        return small, dense

    return make


def interrupted_after(step):
    def progress(description, done, total):
        if description == "training" and done == step:
            raise KeyboardInterrupt

    return progress


def weights(directory):
    return load_file(directory / "model.safetensors")


@pytest.mark.parametrize(
    ("architecture", "method", "task"),
    [("bert", "svd", "mnli"), ("xlnet", "adaptive", "stsb"), ("distilbert", "coded", "cola")],
)
def test_a_compressed_model_stays_compressed_and_is_scored_as_eval_glue_does(
    compressed_classifier, glue_dir, tmp_path, architecture, method, task
):
    small, dense = compressed_classifier(task, architecture, method, ("all",))
    split = "validation_matched" if task == "mnli" else "validation"
    done = finetune(small, task, tmp_path / "out", data=glue_dir, distill=dense, **QUICK | {"split": split})
    before, after = weights(small), weights(tmp_path / "out")
    assert {name: value.shape for name, value in before.items()} == {k: v.shape for k, v in after.items()}
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("word_embedding" in name for name in changed)
    assert all(before[name].is_floating_point() for name in changed)  # masks, offsets and the like are unchanged
    scores = lpcompress.eval_glue(tmp_path / "out", task, data=glue_dir, baseline=small, device="cpu")["tasks"][task]
    assert scores["status"] == "ok"
    for ours, theirs in (("score", "score"), ("score_before", "baseline_score"), ("metrics", "metrics")):
        assert done[ours] == pytest.approx(scores[theirs])
    assert done["gain"] == pytest.approx(-scores["drop"])
    assert done["follows_hidden_states"] and done["teacher_score"] is not None
    assert not (tmp_path / "out.training").exists()


def test_record_report_and_card_describe_the_run(compressed_classifier, glue_dir, tmp_path):
    small, _ = compressed_classifier()
    done = finetune(small, "mrpc", tmp_path / "out", data=glue_dir, **QUICK)
    assert json.loads((tmp_path / "out/finetuning.json").read_text()) == done
    report = json.loads((tmp_path / "out/lpcompress.json").read_text())
    assert report["warnings"] == [] and "Fine-tuned on" in report["finetuning"]
    assert verify(tmp_path / "out").sound and verify(tmp_path / "out").files > 4
    card = (tmp_path / "out/README.md").read_text()
    assert report["finetuning"] in card and "not trained yet" not in card and "nothing was fine-tuned" not in card
    assert "not trained yet" in (small / "README.md").read_text()
    assert done["settings"]["max_steps"] == 3 and done["head"] == "kept"


def test_a_headless_model_gets_a_head_from_the_seed(tiny_model, tokenizer, glue_dir, tmp_path):
    for architecture in ("roberta", "distilbert"):
        base = tmp_path / architecture
        tiny_model(architecture, "lm", pad_token_id=0).save_pretrained(base)
        tokenizer(architecture).save_pretrained(base)
        with pytest.raises(LpCompressError, match=r"has no trained head for rte.*lpcompress finetune"):
            lpcompress.eval_glue(base, "rte", data=glue_dir, device="cpu")
        found = []
        for seed in (0, 0, 1):
            out = tmp_path / f"{architecture}-{len(found)}"
            done = finetune(base, "rte", out, data=glue_dir, seed=seed, **QUICK)
            assert done["head"] == "new" and done["score_before"] is None and done["gain"] is None
            found.append(weights(out))
        head = next(name for name in found[0] if name.startswith("classifier") and name.endswith("weight"))
        assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
        assert not torch.equal(found[0][head], found[2][head])
        config = json.loads((out / "config.json").read_text())
        assert config["id2label"] == {"0": "entailment", "1": "not_entailment"}
        assert lpcompress.eval_glue(out, "rte", data=glue_dir, device="cpu")["tasks"]["rte"]["status"] == "ok"


def test_a_compressed_language_model_gets_a_head_and_stays_compressed(tiny_model, tokenizer, glue_dir, tmp_path):
    model, words = tiny_model("bert", "lm", pad_token_id=0), tokenizer("bert")
    compress(model, ratio=0.3, method="svd", layers=["all"], tokenizer=words)
    saving.save(model, words, tmp_path / "small")
    done = finetune(tmp_path / "small", "cola", tmp_path / "out", data=glue_dir, **QUICK)
    assert done["head"] == "new"
    tuned, _ = loading.load(str(tmp_path / "out"))
    names = {name.removeprefix("bert.") for name, module in tuned.named_modules() if is_compressed_module(module)}
    assert names == {n.removeprefix("bert.") for n, module in model.named_modules() if is_compressed_module(module)}


def test_a_checkpoint_that_lacks_more_than_a_head_is_refused(tiny_model, tokenizer, glue_dir, tmp_path):
    model = tiny_model("bert", "base")
    state = model.state_dict()
    del state["encoder.layer.1.output.dense.weight"]
    model.save_pretrained(tmp_path / "base", state_dict=state)
    tokenizer("bert").save_pretrained(tmp_path / "base")
    with pytest.raises(LpCompressError, match=r"lacks bert\.encoder\.layer\.1\.output\.dense\.weight"):
        finetune(tmp_path / "base", "rte", tmp_path / "out", data=glue_dir, **QUICK)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.training").exists()


@pytest.mark.parametrize("names", [("entailment", "not_entailment"), ("not_entailment", "entailment")])
def test_the_rows_are_learnt_whatever_the_order_of_the_outputs(tiny_classifier, glue_dir, tmp_path, names):
    done = finetune(tiny_classifier("rte", names=names), "rte", tmp_path / "out", data=glue_dir, **LEARNING)
    assert done["train_score"] > 90 > done["score_before"]
    assert done["train_score"] == pytest.approx(done["score"])  # they are the same rows here
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert tuple(config["id2label"].values()) == names


def test_a_regression_is_learnt(tiny_classifier, glue_dir, tmp_path):
    done = finetune(tiny_classifier("stsb"), "stsb", tmp_path / "out", data=glue_dir, **LEARNING)
    assert done["score"] > 80 > done["score_before"]


def test_a_teacher_with_another_order_of_outputs_teaches_the_same(tiny_classifier, glue_dir, tmp_path):
    student = tiny_classifier("rte", directory=tmp_path / "student")
    outs = []
    for names in (("entailment", "not_entailment"), ("not_entailment", "entailment")):
        teacher = tiny_classifier("rte", names=names, directory=tmp_path / names[0], seed=3)
        if outs:
            state = weights(teacher)
            for key in ("classifier.weight", "classifier.bias"):
                state[key] = state[key].flip(0)
            model = AutoModelForSequenceClassification.from_pretrained(teacher)
            model.load_state_dict(state)
            model.save_pretrained(teacher)
        outs.append(tmp_path / f"out-{names[0]}")
        finetune(student, "rte", outs[-1], data=glue_dir, distill=teacher, **QUICK)
    first, second = map(weights, outs)
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_sketches_are_trained(tiny_classifier, glue_dir, tmp_path):
    model, tokenizer = loading.load(str(tiny_classifier("rte")))
    with pytest.warns(NeedsTrainingWarning):
        compress(model, method="sketch", layers=["ffn"], ratio=0.3)
    saving.save(model, tokenizer, tmp_path / "sketched")
    finetune(tmp_path / "sketched", "rte", tmp_path / "out", data=glue_dir, **QUICK)
    tuned, _ = loading.load(str(tmp_path / "out"))
    for name, module in tuned.named_modules():
        if is_compressed_module(module):
            assert isinstance(module, SketchedLinear)
            former = model.get_submodule(name)
            assert module.seed == former.seed and not torch.equal(module.basis, former.basis)


@pytest.mark.parametrize("method", ["svd", "coded"])
def test_frozen_layers_do_not_change(compressed_classifier, glue_dir, tmp_path, method):
    small, _ = compressed_classifier(method=method, layers=("all",))
    finetune(small, "mrpc", tmp_path / "out", data=glue_dir, freeze=("embedding", "*.layer.0*"), **QUICK)
    before, after = weights(small), weights(tmp_path / "out")
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if "word_embeddings" in name or ".layer.0." in name}
    assert frozen <= same and "classifier.weight" not in same


def test_coded_layers_are_trained_alike_in_every_resident_form(compressed_classifier, glue_dir, tmp_path, monkeypatch):
    small, dense = compressed_classifier(method="coded", layers=("all",), num_hidden_layers=1)
    before, found, scores = weights(small), {}, {}
    for resident in RESIDENCES:
        monkeypatch.setenv("LPCOMPRESS_RESIDENT", resident)
        done = finetune(small, "mrpc", tmp_path / resident, data=glue_dir, distill=dense, **QUICK)
        found[resident], scores[resident] = weights(tmp_path / resident), done["score"]
    trained = [name for name in before if not torch.equal(before[name], found["codes"][name])]
    layers = {name.rpartition(".")[0] for name in before if name.endswith(".stream")}
    assert layers and {f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "levels")} <= {*trained}
    assert not [name for name in trained if name.endswith(".stream")]
    for name in (f"{layer}.levels" for layer in layers):  # three steps at a rate of 5e-5 of the number itself
        step = float(before[name][0])
        torch.testing.assert_close(found["codes"][name], before[name], atol=3.1 * 5e-5 * step, rtol=0)
    for others in found.values():
        assert all(torch.equal(others[name], tensor) for name, tensor in found["codes"].items())
    for resident, score in scores.items():  # scored with what was trained, and not with a matrix made before
        monkeypatch.setenv("LPCOMPRESS_RESIDENT", resident)
        again = lpcompress.eval_glue(tmp_path / resident, "mrpc", data=glue_dir, device="cpu")["tasks"]["mrpc"]
        assert again["score"] == pytest.approx(score)


def test_a_half_precision_model_is_saved_in_half_precision(tiny_classifier, glue_dir, tmp_path):
    model, tokenizer = loading.load(str(tiny_classifier("rte")))
    saving.save(model.half(), tokenizer, tmp_path / "half")
    done = finetune(tmp_path / "half", "rte", tmp_path / "out", data=glue_dir, mixed_precision="bf16", **QUICK)
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {torch.float16}
    assert done["settings"]["mixed_precision"] == "bf16"


@pytest.mark.parametrize("method", ["svd", "coded"])
def test_an_interrupted_run_is_resumed_to_the_same_bytes(compressed_classifier, glue_dir, tmp_path, method):
    small, dense = compressed_classifier(architecture="xlnet", method=method, layers=("all",), n_layer=1)
    settings = {"data": glue_dir, "distill": dense, **QUICK, "max_steps": 10}
    whole = finetune(small, "mrpc", tmp_path / "whole", **settings)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        finetune(small, "mrpc", out, progress=interrupted_after(7), **settings)
    assert not out.exists()
    with pytest.raises(LpCompressError, match=r"out\.training belongs to an interrupted run\. Pass --resume"):
        finetune(small, "mrpc", out, **settings)
    with pytest.raises(LpCompressError, match=r"other settings \(seed\)\. Repeat that run's options"):
        finetune(small, "mrpc", out, resume=True, seed=1, **settings)
    steps = []
    record = lambda what, done, total: steps.append((what, done))  # noqa: E731
    resumed = finetune(small, "mrpc", out, resume=True, progress=record, **settings)
    assert resumed["train_loss"] == whole["train_loss"]  # its loss is that of all steps
    assert [done for what, done in steps if what == "training"] == [7, 8, 9, 10]  # saved after step 6
    first, second = weights(tmp_path / "whole"), weights(out)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not (tmp_path / "out.training").exists()


def test_a_run_keeps_its_state_from_others(tiny_classifier, glue_dir, tmp_path):
    out = tmp_path / "out"
    with State.of(out).claimed():
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(LpCompressError, match=r"out\.training is in use by another run\. Wait for it"):
                finetune(tiny_classifier("mrpc"), "mrpc", out, data=glue_dir, **QUICK, **options)
    finetune(tiny_classifier("mrpc"), "mrpc", out, data=glue_dir, **QUICK)
    assert not [name for name in os.listdir(tmp_path) if "lpcompress" in name or "training" in name]


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"epochs": 0}, PlanError, "epochs must be above 0: passes over the training rows. Got 0."),
        (
            {"max_steps": 0},
            PlanError,
            "max_steps must be at least 1: number of training steps, whatever the epochs. Got 0",
        ),
        (
            {"mixed_precision": "half"},
            PlanError,
            "mixed_precision must be one of no, bf16, fp16: mixed precision for matrix products. Got 'half'.",
        ),
        ({"train_limit": 0}, PlanError, "train_limit must be at least 1: maximum number of training rows. Got 0"),
        (
            {"task": "mrpc,rte"},
            PlanError,
            "task must be one of cola.*: a model is fine-tuned on one task. Got 'mrpc,rte'",
        ),
        ({"freeze": ("clasifier",)}, LpCompressError, "freeze 'clasifier' matched nothing.* Nearest: 'classifier'"),
        ({"freeze": ("*",)}, LpCompressError, "leaves nothing to train"),
        ({"freeze": "embedding"}, PlanError, "freeze must be a list of texts: wildcard for .* Got 'embedding'."),
        ({"epochs": "2"}, PlanError, "epochs must be a number: passes over the training rows. Got '2'."),
        (
            {"learning_rate": float("inf")},
            PlanError,
            "learning_rate must be a finite number: peak learning rate.* Got inf.",
        ),
        ({"learning_rate": 1e30}, LpCompressError, "training diverged: weights are NaN or infinite"),
        ({"max_steps": 2.5}, PlanError, "max_steps must be a whole number: number of training steps, .* Got 2.5"),
        ({"mixed_precision": "fp16"}, LpCompressError, "fp16 needs a GPU; bf16 works on a CPU"),
        ({"split": "train"}, LpCompressError, "must hold the rows of rte, train"),
    ],
)
def test_an_impossible_run_is_refused(tiny_classifier, glue_dir, tmp_path, options, error, sentence):
    settings = {"task": "rte", "data": glue_dir, **QUICK} | options
    with pytest.raises(error, match=sentence):
        finetune(tiny_classifier("rte"), out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.training").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"layers": 3}', '{"layers": [{}]}', '{"file_bytes_before": "x"}'])
def test_a_damaged_report_is_refused_before_any_scoring(tiny_classifier, glue_dir, tmp_path, monkeypatch, content):
    model = tiny_classifier("rte")
    (model / "lpcompress.json").write_text(content)
    monkeypatch.setattr(Examination, "plain", lambda *_: pytest.fail("the model was scored"))
    with pytest.raises(LpCompressError, match=r"lpcompress\.json: .*Delete the file to continue without it\.$"):
        finetune(model, "rte", tmp_path / "out", data=glue_dir, **QUICK)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.training").exists()


def test_scores_from_before_training_are_not_in_the_new_report(compressed_classifier, glue_dir, tmp_path):
    small, _ = compressed_classifier()
    report = json.loads((small / "lpcompress.json").read_text())
    (small / "lpcompress.json").write_text(json.dumps(report | {"glue": {"tasks": {}}}))
    finetune(small, "mrpc", tmp_path / "out", data=glue_dir, **QUICK)
    assert "glue" not in json.loads((tmp_path / "out" / "lpcompress.json").read_text())
    assert "*error* is relative before that training" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_a_model_that_is_read_from_is_not_replaced(tiny_classifier, glue_dir, tmp_path, which):
    models = {each: tiny_classifier("rte", directory=tmp_path / each) for each in ("student", "teacher")}
    options = {"data": glue_dir, "distill": models["teacher"], "overwrite": True, **QUICK}
    with pytest.raises(LpCompressError, match=f"is the directory of .*{which}, which is read from"):
        finetune(models["student"], "rte", models[which], **options)
    assert sorted(tmp_path.glob("*/model.safetensors")) == [tmp_path / f"{each}/model.safetensors" for each in models]


def test_overwrite_keeps_a_directory_that_only_has_the_name_of_a_run(tiny_classifier, glue_dir, tmp_path):
    (tmp_path / "out.training").mkdir()
    (tmp_path / "out.training" / "thesis.tex").touch()
    with pytest.raises(LpCompressError, match=r"out\.training must be the directory of an interrupted run"):
        finetune(tiny_classifier("rte"), "rte", tmp_path / "out", data=glue_dir, overwrite=True, **QUICK)
    assert (tmp_path / "out.training" / "thesis.tex").exists() and not (tmp_path / "out").exists()


def test_a_run_is_not_resumed_with_another_order_of_outputs(tiny_classifier, glue_dir, tmp_path):
    out, order = tmp_path / "out", tmp_path / "order.yaml"
    settings = {"task": "rte", "data": glue_dir, **QUICK}
    with pytest.raises(KeyboardInterrupt):
        finetune(tiny_classifier("rte"), out=out, progress=interrupted_after(1), **settings)
    order.write_text("rte: [not_entailment, entailment]\n")
    with pytest.raises(LpCompressError, match=r"other settings \(outputs\)"):
        finetune(tiny_classifier("rte"), out=out, resume=True, label_map=order, **settings)


def test_a_teacher_with_another_vocabulary_is_refused(tiny_classifier, glue_dir, tmp_path):
    teacher = tiny_classifier("rte", "distilbert")
    text = (teacher / "tokenizer.json").read_text()
    (teacher / "tokenizer.json").write_text(text.replace('"the"', '"thee"'))
    with pytest.raises(LpCompressError, match="a teacher must have the same tokenizer as"):
        finetune(tiny_classifier("rte"), "rte", tmp_path / "out", data=glue_dir, distill=teacher, **QUICK)


def test_the_command_prints_only_json_and_two_processes_train_one_model(
    run, compressed_classifier, glue_dir, tmp_path, two_processes
):
    small, dense = compressed_classifier()
    arguments = ["finetune", small, "--task", "mrpc", "--data", glue_dir, "--split", "validation"]
    arguments += ["--max-steps", 3, "--batch-size", 2, "--distill", dense, "--freeze", "embedding", "--json", "--out"]
    code, out, err = run(*arguments, tmp_path / "one")
    assert code == 0, err
    assert json.loads(out)["settings"]["processes"] == 1
    done = two_processes("-m", "lpcompress", *arguments, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["settings"]["processes"] == 2
    scores = lpcompress.eval_glue(tmp_path / "two", "mrpc", data=glue_dir, device="cpu")["tasks"]["mrpc"]
    assert scores["score"] == pytest.approx(document["score"])


def test_small_files_beside_the_weights_are_copied(tiny_classifier, glue_dir, tmp_path):
    model = tiny_classifier("rte")
    (model / "1_Pooling").mkdir()
    for name in ("LICENSE", "1_Pooling/config.json", "chat_template.jinja", "finetuning.json"):
        (model / name).write_text(f"{{}} {name}\n")
    finetune(model, "rte", tmp_path / "out", data=glue_dir, **QUICK)
    assert json.loads((tmp_path / "out" / "finetuning.json").read_text())["task"] == "rte"
    for name in ("LICENSE", "1_Pooling/config.json", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (model / name).read_bytes()
