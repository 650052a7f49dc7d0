"""`from_pretrained`, `save_pretrained`, `dequantize` and Trainer on compressed checkpoints."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from lpcompress.checkpoints.layout import lay_out
from lpcompress.checkpoints.quantizer import LpCompressConfig, replace_layers
from lpcompress.errors import CheckpointError, LpCompressError

ARCHITECTURES = ("bert", "roberta", "distilbert", "xlnet")
KINDS = ("low_rank", "clustered", "sparse", "levels", "coded")
NAME = "embeddings.word_embeddings"


@pytest.fixture
def saved(compressed, tmp_path):
    """A function like `compressed` -> (the model, its directory)."""

    def make(*args, **kwargs):
        model = compressed(*args, **kwargs)
        model.save_pretrained(tmp_path / "saved")
        return model, tmp_path / "saved"

    return make


def edit(directory, change):
    """Apply `change` to the quantization_config in config.json."""
    config = json.loads((directory / "config.json").read_text())
    change(config["quantization_config"])
    (directory / "config.json").write_text(json.dumps(config))


def test_the_config_describes_the_layers(saved):
    _, directory = saved(kind="clustered")
    settings = json.loads((directory / "config.json").read_text())["quantization_config"]
    assert settings["quant_method"] == "lpcompress" and settings["format_version"] == 1
    entry = settings["layers"][NAME]
    assert {key: entry[key] for key in ("kind", "method", "p", "shape", "ranks")} == {
        "kind": "clustered",
        "method": "clustered",
        "p": 1.0,
        "shape": [203, 20],
        "ranks": [3, 7, 0],
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", ["classifier", "lm", "base"])
def test_every_class_loads_from_every_other(saved, ids, architecture, head, kind):
    model, directory = saved(architecture, head, kind)
    base = getattr(model, model.base_model_prefix, model)
    loaded = AutoModel.from_pretrained(directory)
    assert torch.equal(loaded(ids).last_hidden_state, base(ids).last_hidden_state)
    if head != "base":
        again, info = type(model).from_pretrained(directory, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert torch.equal(again(ids).logits, model(ids).logits)
        again.save_pretrained(directory / "again")
        for file in (directory / "model.safetensors", directory / "again" / "model.safetensors"):
            lay_out(file)
        for name in ("config.json", "model.safetensors"):
            assert (directory / "again" / name).read_bytes() == (directory / name).read_bytes()


def test_a_classifier_from_a_language_model_and_back(saved, ids):
    model, directory = saved("roberta", "lm", "sparse")
    classifier = AutoModelForSequenceClassification.from_pretrained(directory)
    assert torch.equal(classifier.roberta(ids)[0], model.roberta(ids)[0])
    classifier.save_pretrained(directory / "classifier")
    lm = AutoModelForMaskedLM.from_pretrained(directory / "classifier")
    assert torch.equal(lm.roberta(ids)[0], model.roberta(ids)[0])
    assert torch.isfinite(lm(ids).logits).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(saved, ids, kind, dtype):
    model, directory = saved("bert", "lm", kind)
    loaded = AutoModelForMaskedLM.from_pretrained(directory, dtype=dtype)
    assert loaded.dtype == dtype == loaded(ids).logits.dtype
    torch.testing.assert_close(loaded(ids).logits.float(), model(ids).logits, atol=0.1, rtol=0.1)
    other = AutoModelForMaskedLM.from_pretrained(directory)
    other = other.half() if dtype == torch.float16 else other.to(dtype)
    assert torch.equal(other(ids).logits, loaded(ids).logits)
    loaded.save_pretrained(directory / "half")
    assert torch.equal(AutoModelForMaskedLM.from_pretrained(directory / "half")(ids).logits, loaded(ids).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_a_layer_is_needed(saved, kind):
    model, directory = saved(kind=kind)
    weights = load_file(directory / "model.safetensors")
    for leaf in model.get_input_embeddings().state_dict():
        key = f"bert.{NAME}.{'weight' if leaf == model.get_input_embeddings().weight_name else leaf}"
        save_file({k: t for k, t in weights.items() if k != key}, directory / "model.safetensors", {"format": "pt"})
        with pytest.raises(CheckpointError, match=f"must hold {key}, which it lacks"):
            AutoModelForSequenceClassification.from_pretrained(directory)


@pytest.mark.parametrize("leaf", ["weight", "basis", "padding_row", "masks", "blocks", "offsets"])
def test_garbled_tensors_are_refused(saved, leaf):
    _, directory = saved(kind="sparse")
    weights = load_file(directory / "model.safetensors")
    tensor = weights[f"bert.{NAME}.{leaf}"]
    tensor.view(-1)[7] = float("nan") if tensor.is_floating_point() else 77
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"bert.{NAME}"):
        AutoModelForSequenceClassification.from_pretrained(directory)


def test_mismatched_shapes_cannot_be_ignored(saved, monkeypatch):
    _, directory = saved(kind="low_rank")
    edit(directory, lambda settings: settings["layers"][NAME].update(rank=5))
    monkeypatch.setenv("LPCOMPRESS_VERIFY", "0")  # which would find the edit first
    with pytest.raises(CheckpointError, match="another shape"):
        AutoModelForSequenceClassification.from_pretrained(directory, ignore_mismatched_sizes=True)
    with pytest.raises(RuntimeError, match="mismatch"):
        AutoModelForSequenceClassification.from_pretrained(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(format_version=99), "format_version must be at most 2.*pip install --upgrade"),
        (lambda s: s.update(format_version="new"), "format_version must be"),
        (lambda s: s.update(layers=[1]), "'layers' of the quantization_config must be a mapping"),
        (lambda s: s["layers"][NAME].update(kind="new"), rf"config.json, .*{NAME}.*'kind' must be one of"),
        (lambda s: s["layers"][NAME].update(width=-1), "'width' must be"),
        (lambda s: s["layers"].update({NAME: 3}), "'kind' must be one of"),
        (lambda s: s["layers"].update({"pooler.dense": s["layers"][NAME]}), "must replace Embedding. Got Linear"),
        (lambda s: s.update(layers={"wrong.name": s["layers"][NAME]}), "wrong.name must be layers of the model"),
    ],
)
def test_invalid_configs_are_refused(saved, change, message):
    _, directory = saved(kind="sparse")
    edit(directory, change)
    with pytest.raises(CheckpointError, match=message):
        AutoModelForSequenceClassification.from_pretrained(directory)


def test_unknown_keys_of_the_config_are_kept(saved):
    _, directory = saved()
    edit(directory, lambda settings: settings.update(note="mine"))
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    assert model.config.quantization_config.to_dict()["note"] == "mine"


def test_a_dense_checkpoint_is_not_compressed_while_loading(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(LpCompressError, match="cannot compress a dense checkpoint while it loads"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, quantization_config=LpCompressConfig())


def test_a_model_of_another_quantizer_is_refused(tiny_model):
    model = tiny_model()
    model.config.quantization_config = {"quant_method": "other"}
    with pytest.raises(LpCompressError, match="another method"):
        replace_layers(model, {})


def test_a_layer_that_was_made_dense_again_leaves_the_config(saved):
    model, directory = saved()
    model.set_input_embeddings(nn.Embedding(203, 20))
    model.save_pretrained(directory)
    assert json.loads((directory / "config.json").read_text())["quantization_config"]["layers"] == {}
    AutoModelForSequenceClassification.from_pretrained(directory)


@pytest.mark.parametrize("head", ["classifier", "lm"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_dequantize(saved, ids, head, dtype):
    _, directory = saved("bert", head, "sparse")
    model = (AutoModelForSequenceClassification if head == "classifier" else AutoModelForMaskedLM).from_pretrained(
        directory
    )
    logits = model(ids).logits
    model.save_pretrained(directory)  # which turns config.dtype into a string
    model.dequantize(**({} if dtype is None else {"dtype": dtype}))
    assert type(model.get_input_embeddings()) is nn.Embedding and model.dtype == (dtype or torch.float32)
    assert not hasattr(model.config, "quantization_config") and "resize_token_embeddings" not in vars(model)
    torch.testing.assert_close(model(ids).logits.float(), logits, atol=1e-5 if dtype is None else 0.1, rtol=1e-2)
    model.resize_token_embeddings(210, mean_resizing=False)


def training_arguments(tmp_path, **options):
    """Return the arguments of three quiet steps."""
    return transformers.TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=3,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **options,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_trainer(saved, tmp_path, ids, kind):
    _, directory = saved(kind=kind)
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    before = {name: p.detach().clone() for name, p in model.get_input_embeddings().named_parameters()}
    rows = [{"input_ids": row, "labels": i} for i, row in enumerate(ids)] * 4
    arguments = training_arguments(tmp_path, save_steps=3, per_device_train_batch_size=4)
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    loss = trainer.evaluate()["eval_loss"]
    assert all(not torch.equal(p, before[n]) for n, p in model.get_input_embeddings().named_parameters())
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "checkpoint-3")
    assert torch.equal(again(ids).logits, model.eval()(ids).logits)
    assert loss > 0


@pytest.mark.parametrize("kind", KINDS)
def test_trainer_goes_back_to_its_best_checkpoint(saved, tmp_path, ids, kind):
    _, directory = saved(kind=kind)
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    rows = [{"input_ids": row, "labels": i} for i, row in enumerate(ids)] * 4
    arguments = training_arguments(
        tmp_path,
        save_steps=1,
        eval_steps=1,
        eval_strategy="steps",
        load_best_model_at_end=True,
        greater_is_better=True,  # the highest loss counts as best, so that it is not the last
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    best, last = trainer.state.best_model_checkpoint, tmp_path / "run" / "checkpoint-3"
    assert best != str(last)
    logits = model.eval()(ids).logits
    assert torch.equal(AutoModelForSequenceClassification.from_pretrained(best)(ids).logits, logits)
    assert not torch.equal(AutoModelForSequenceClassification.from_pretrained(last)(ids).logits, logits)


@pytest.mark.parametrize("kind", KINDS)
def test_offloading_to_disk(saved, ids, tmp_path, kind):
    model, directory = saved("bert", "lm", kind)
    device_map = {"bert.embeddings": "disk", "bert.encoder": "cpu", "cls": "cpu"}
    loaded = AutoModelForMaskedLM.from_pretrained(directory, device_map=device_map, offload_folder=str(tmp_path / "o"))
    assert loaded.get_input_embeddings().weight.is_meta
    model.get_input_embeddings().reside("codes")  # as layers on disk compute
    assert torch.equal(loaded(ids).logits, model(ids).logits)
