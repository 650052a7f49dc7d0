"""Fine-tuned checkpoints: loaded as they are, or refused; never scored with random weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from lpcompress.checkpoints import saving
from lpcompress.errors import CheckpointError
from lpcompress.evaluation.classifier import head_weights, load_classifier, stored_shapes
from lpcompress.glue.tasks import AX, TASKS

ARCHITECTURES = ("bert", "roberta", "distilbert", "xlnet")
HEADS = {  # the last layer of each
    "bert": "classifier",
    "roberta": "classifier.out_proj",
    "distilbert": "classifier",
    "xlnet": "logits_proj",
}


def edit_config(directory, **changes):
    config = json.loads((directory / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", TASKS)
def test_every_task_of_every_architecture_gives_the_logits_of_plain_transformers(tiny_classifier, architecture, task):
    directory = tiny_classifier(task, architecture)
    found = load_classifier(str(directory), TASKS[task])
    batch = found.tokenizer(["the shop is old"], ["it opens at nine"], return_tensors="pt")
    plain = AutoModelForSequenceClassification.from_pretrained(directory)
    assert torch.equal(found.model(**batch).logits, plain(**batch).logits)
    assert found.model.config.num_labels == TASKS[task].n_outputs
    assert not found.model.training
    assert found.name == str(directory)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_is_found_by_its_shape(tiny_model, architecture):
    config = tiny_model(architecture, num_labels=3).config
    assert head_weights(config) == {f"{HEADS[architecture]}.weight", f"{HEADS[architecture]}.bias"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_compressed_checkpoint_is_loaded(compressed, tokenizer, tmp_path, ids, architecture):
    model = compressed(architecture, num_labels=3)
    saving.save(model, tokenizer(architecture), tmp_path / "small")
    found = load_classifier(str(tmp_path / "small"), TASKS["mnli"])
    assert torch.equal(found.model(ids).logits, model(ids).logits)


@pytest.mark.parametrize("weights", ["safetensors", "bin", "sharded"])
@pytest.mark.parametrize(("task", "outputs"), [("mnli", 3), ("stsb", 1)])
def test_the_number_of_labels_is_that_of_the_stored_head(tiny_classifier, task, outputs, weights):
    directory = tiny_classifier(task)
    expected = load_file(directory / "model.safetensors")
    edit_config(directory, id2label=None, label2id=None, problem_type=None, _num_labels=outputs)  # an old config
    if weights == "sharded":
        AutoModelForSequenceClassification.from_pretrained(directory, num_labels=outputs).save_pretrained(
            directory, max_shard_size="8KB"
        )
        (directory / "model.safetensors").unlink(missing_ok=True)
        edit_config(directory, id2label=None, label2id=None, problem_type=None, _num_labels=outputs)
        assert len(list(directory.glob("model-*.safetensors"))) > 1
    if weights == "bin":
        torch.save(expected, directory / "pytorch_model.bin")
        (directory / "model.safetensors").unlink()
    found = load_classifier(str(directory), TASKS[task])
    assert found.model.config.num_labels == outputs
    assert torch.equal(found.model.classifier.weight, expected["classifier.weight"])


def test_shapes_are_read_from_headers(tiny_classifier):
    directory = tiny_classifier("rte")
    tensors = load_file(directory / "model.safetensors")
    assert stored_shapes(directory) == {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def test_names_of_the_classes_survive(tiny_classifier):
    directory = tiny_classifier("mnli", names=("contradiction", "entailment", "neutral"))
    found = load_classifier(str(directory), TASKS["mnli"])
    assert found.model.config.id2label == {0: "contradiction", 1: "entailment", 2: "neutral"}


def test_ax_is_scored_by_a_model_of_mnli(tiny_classifier):
    assert load_classifier(str(tiny_classifier("mnli")), AX).model.config.num_labels == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", ["base", "lm"])
def test_a_model_without_a_trained_head_is_refused_with_advice(tiny_model, tokenizer, tmp_path, architecture, head):
    tiny_model(architecture, head).save_pretrained(tmp_path)
    tokenizer(architecture).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no trained head for rte.*\{TASK\}.*finetune"):
        load_classifier(str(tmp_path), TASKS["rte"])


def test_a_checkpoint_that_lacks_any_weight_is_refused(tiny_classifier):
    directory = tiny_classifier("rte")
    tensors = load_file(directory / "model.safetensors")
    del tensors["bert.pooler.dense.weight"]
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks bert\.pooler\.dense\.weight: the checkpoint is incomplete"):
        load_classifier(str(directory), TASKS["rte"])


@pytest.mark.parametrize(
    ("trained", "asked", "message"),
    [
        ("mnli", "mrpc", r"outputs must be 2 for mrpc \(not_equivalent, equivalent\)\. It is 3"),
        ("mrpc", "stsb", r"outputs must be 1 for stsb \(a similarity\)\. It is 2"),
        ("stsb", "cola", r"outputs must be 2 for cola .*It is 1: the model was fine-tuned on another task"),
    ],
)
def test_the_head_of_another_task_is_refused(tiny_classifier, trained, asked, message):
    with pytest.raises(CheckpointError, match=message):
        load_classifier(str(tiny_classifier(trained)), TASKS[asked])


def test_a_checkpoint_without_tokenizer_is_refused(tiny_classifier):
    directory = tiny_classifier("rte")
    for file in directory.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer with a padding token"):
        load_classifier(str(directory), TASKS["rte"])


def test_no_such_model(tmp_path):
    with pytest.raises(CheckpointError, match="There is no such directory"):
        load_classifier(str(tmp_path / "absent"), TASKS["rte"])


def test_weights_that_are_garbage(tiny_classifier):
    directory = tiny_classifier("rte")
    (directory / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_classifier(str(directory), TASKS["rte"])


def test_the_fingerprint_follows_the_content(tiny_classifier, tmp_path):
    first = load_classifier(str(tiny_classifier("rte", directory=tmp_path / "a")), TASKS["rte"]).fingerprint
    same = load_classifier(str(tiny_classifier("rte", directory=tmp_path / "b")), TASKS["rte"]).fingerprint
    other = load_classifier(str(tiny_classifier("rte", directory=tmp_path / "c", seed=1)), TASKS["rte"]).fingerprint
    names = tiny_classifier("rte", directory=tmp_path / "d", names=("LABEL_0", "LABEL_1"))
    assert first == same
    assert len({first, other, load_classifier(str(names), TASKS["rte"]).fingerprint}) == 3


def test_a_model_in_the_cache_of_the_hub_needs_no_network(tiny_classifier, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache" / "models--someone--rte"
    tiny_classifier("rte", directory=repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    found = load_classifier("someone/rte", TASKS["rte"])
    assert (found.name, found.fingerprint) == ("someone/rte", commit)
