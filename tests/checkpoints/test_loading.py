"""Loading checkpoints in the same and in a fresh process; damaged ones are refused."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, Wav2Vec2Config, Wav2Vec2ForCTC

from lpcompress.checkpoints import densifying, files, loading, saving
from lpcompress.compression.whole_model import compress
from lpcompress.errors import CheckpointError, NeedsTrainingWarning
from lpcompress.factor import METHODS

ARCHITECTURES = ("bert", "roberta", "distilbert", "xlnet")


KINDS = ("low_rank", "clustered", "sparse", "levels", "coded")


RELOAD = """
import sys, pathlib, torch
import transformers
import lpcompress
torch.set_num_threads(1)
for directory in pathlib.Path(sys.argv[1]).iterdir():
    architecture, head, kind = directory.name.split("-")
    auto = {"classifier": "AutoModelForSequenceClassification", "lm": "AutoModelForMaskedLM"}[head]
    if (architecture, head) == ("xlnet", "lm"):
        auto = "AutoModelForCausalLM"
    model = getattr(transformers, auto).from_pretrained(directory)
    expected = torch.load(directory / "expected.pt")
    assert torch.equal(model(expected["ids"]).logits, expected["logits"]), directory
    print(directory.name)
"""


def test_logits_are_equal_to_the_bit_in_a_fresh_process(compressed, ids, tmp_path, fresh_python):
    for architecture in ARCHITECTURES:
        for head in ("classifier", "lm"):
            for kind in KINDS:
                model = compressed(architecture, head, kind)
                directory = tmp_path / f"{architecture}-{head}-{kind}"
                saving.save(model, None, directory)
                torch.save({"ids": ids, "logits": model(ids).logits.detach()}, directory / "expected.pt")
    done = fresh_python(RELOAD, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 8 * len(KINDS)


def test_every_layer_by_every_method_in_a_fresh_process(tiny_model, ids, tmp_path, fresh_python):
    for architecture in ("bert", "xlnet"):  # all kinds of layers: bare weights are XLNet's
        for method in METHODS:
            model = tiny_model(architecture, "lm" if method == "messi" else "classifier")
            head = "lm" if method == "messi" else "classifier"
            compress(model, layers=["all"], method=method, ratio=0.3, clusters=2 if method == "messi" else None)
            directory = tmp_path / f"{architecture}-{head}-{method}"
            saving.save(model, None, directory, max_shard_size="9KB" if method == "adaptive" else None)
            torch.save({"ids": ids, "logits": model(ids).logits.detach()}, directory / "expected.pt")
        model = tiny_model(architecture)
        with pytest.warns(NeedsTrainingWarning):
            compress(model, layers=["all"], method="sketch", ratio=0.3)
        saving.save(model, None, tmp_path / f"{architecture}-classifier-sketch")
        expected = {"ids": ids, "logits": model(ids).logits.detach()}
        torch.save(expected, tmp_path / f"{architecture}-classifier-sketch" / "expected.pt")
    done = fresh_python(RELOAD, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2 * (len(METHODS) + 1)


def test_without_the_package_no_layer_is_random(tiny_model, tmp_path, fresh_python):
    for architecture in ARCHITECTURES:
        for word in ("attention", "ffn"):
            model = tiny_model(architecture)
            compress(model, layers=[word], method="svd", ratio=0.4)
            saving.save(model, None, tmp_path / f"{architecture}-{word}")
    script = """
import sys, pathlib, transformers
for directory in pathlib.Path(sys.argv[1]).iterdir():
    try:
        transformers.AutoModelForSequenceClassification.from_pretrained(directory)
    except RuntimeError as error:
        print(directory.name)
assert "lpcompress" not in sys.modules
"""
    done = fresh_python(script, tmp_path)
    assert len(done.stdout.split()) == 8, done.stderr


def test_without_the_package_loading_fails(compressed, tmp_path, fresh_python):
    for kind in KINDS:
        saving.save(compressed(kind=kind), None, tmp_path / kind)
    script = """
import sys, transformers
for kind in sys.argv[2:]:
    try:
        transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1] + "/" + kind)
    except RuntimeError as error:
        print(kind)
assert "lpcompress" not in sys.modules
"""
    done = fresh_python(script, tmp_path, *KINDS)
    assert done.stdout.split() == list(KINDS), done.stderr


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_dtype_of_the_checkpoint_is_kept(compressed, tmp_path, dtype):
    saving.save(compressed().to(dtype), None, tmp_path / "a")
    assert loading.load(str(tmp_path / "a"))[0].dtype == dtype
    assert loading.load(str(tmp_path / "a"), dtype=torch.float32)[0].dtype == torch.float32


def test_the_class_follows_the_config(tiny_model, tmp_path):
    tiny_model("distilbert", "lm").save_pretrained(tmp_path / "a")
    model, tokenizer = loading.load(str(tmp_path / "a"))
    assert type(model).__name__ == "DistilBertForMaskedLM" and tokenizer is None
    assert not files.is_compressed(model.config)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    for name, outcome in (("os", None), ("MyBert", None), (None, "DistilBertModel")):
        config["architectures"] = [name] if name else None
        (tmp_path / "a" / "config.json").write_text(json.dumps(config))
        if outcome:
            assert type(loading.load(str(tmp_path / "a"))[0]).__name__ == outcome
        else:
            with pytest.raises(CheckpointError, match=f"must name a class of transformers. Got '{name}'"):
                loading.load(str(tmp_path / "a"))


def test_missing_weights_give_a_warning_or_an_error(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({k: t for k, t in weights.items() if "classifier" not in k}, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="these weights are random"):
        loading.load(str(tmp_path))
    save_file({k: t for k, t in weights.items() if "word_emb" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"It lacks bert\.embeddings\.word_embeddings\.weight"):
        loading.load(str(tmp_path))


def save_without(model, directory, lost, renamed=None):
    """Save a checkpoint that lacks one tensor, or has it under another name."""
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = {renamed if key == lost else key: tensor for key, tensor in state.items() if renamed or key != lost}
    model.save_pretrained(directory)
    save_file(state, directory / "model.safetensors", {"format": "pt"})


LOST = (
    ("bert", "base", "embeddings.position_embeddings.weight"),
    ("bert", "base", "encoder.layer.1.output.LayerNorm.bias"),
    ("bert", "classifier", "bert.encoder.layer.0.attention.self.query.weight"),
    ("roberta", "lm", "roberta.encoder.layer.1.intermediate.dense.bias"),
    ("distilbert", "classifier", "distilbert.transformer.layer.0.ffn.lin1.weight"),
    ("xlnet", "classifier", "transformer.layer.0.rel_attn.r_w_bias"),
)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize(("architecture", "head", "lost"), LOST)
def test_a_body_with_random_weights_is_refused(tiny_model, tmp_path, architecture, head, lost, renamed, on_disk):
    other = lost[:-1] + "q"  # one byte is wrong
    save_without(tiny_model(architecture, head), tmp_path, lost, other if renamed else None)
    with pytest.raises(CheckpointError, match=rf"must hold every weight of the body of a .* It lacks {lost}: "):
        loading.load(str(tmp_path), on_disk=on_disk)


FRESH = (
    ("bert", "base", "pooler.dense.weight"),
    ("bert", "classifier", "bert.pooler.dense.bias"),
    ("bert", "classifier", "classifier.weight"),
    ("roberta", "lm", "lm_head.dense.weight"),
    ("distilbert", "classifier", "pre_classifier.weight"),
    ("xlnet", "classifier", "sequence_summary.summary.weight"),
)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize(("architecture", "head", "lost"), FRESH)
def test_a_head_or_a_pooler_may_be_new(tiny_model, tmp_path, architecture, head, lost, on_disk):
    save_without(tiny_model(architecture, head), tmp_path, lost)
    with pytest.warns(UserWarning, match=f"lacks {lost}; these weights are random"):
        loading.load(str(tmp_path), on_disk=on_disk)


def test_what_only_training_reads_may_be_missing(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (8,), "conv_kernel": (3,), "conv_stride": (2,), "num_feat_extract_layers": 1}
    config = Wav2Vec2Config(**sizes, **convolutions, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    save_without(Wav2Vec2ForCTC(config), tmp_path, "wav2vec2.masked_spec_embed")
    with pytest.warns(UserWarning, match=r"lacks wav2vec2\.masked_spec_embed"):
        loading.load(str(tmp_path))


def test_densify_writes_no_random_weights(compressed, tmp_path):
    save_without(compressed(), tmp_path / "a", "bert.encoder.layer.0.output.dense.weight")
    with pytest.raises(CheckpointError, match=r"It lacks bert\.encoder\.layer\.0\.output\.dense\.weight"):
        densifying.densify(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path) == ["a"]


def test_damaged_files_give_a_one_line_message(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="cannot be loaded") as error:
        loading.load(str(tmp_path))
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        loading.load(str(tmp_path))


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_a_pickle_cannot_run_code(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    tiny_model().config.save_pretrained(tmp_path / "a")
    torch.save({"weight": Bomb()}, tmp_path / "a" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        loading.load(str(tmp_path / "a"))
    assert not (tmp_path / "exploded").exists()


def test_a_config_of_wrong_types_gives_a_one_line_message(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"hidden_size": "wide"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"cannot be loaded\. .*'hidden_size': .*expected int, got str"):
        loading.load(str(tmp_path))


def test_pipelines(compressed, tokenizer, tmp_path):
    from transformers import pipeline

    for head, task in (("classifier", "text-classification"), ("lm", "fill-mask"), ("base", "feature-extraction")):
        saving.save(compressed("bert", head, "clustered"), tokenizer, tmp_path / head)
        result = pipeline(task, model=str(tmp_path / head))("a b [MASK] c")
        assert result and (task == "feature-extraction" or all(r["score"] > 0 for r in result))


def test_the_language_model_shares_its_factors_after_loading(compressed, tmp_path):
    saving.save(compressed("roberta", "lm", "low_rank"), None, tmp_path / "a")
    assert not any(key.startswith("lm_head.decoder") for key in load_file(tmp_path / "a" / "model.safetensors"))
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "a")
    assert model.get_output_embeddings().embedding is model.get_input_embeddings()


@pytest.mark.parametrize(
    "error", [IndexError, ZeroDivisionError, AssertionError, RecursionError, MemoryError, TypeError]
)
def test_whatever_a_loader_raises_is_one_sentence(tiny_model, tmp_path, monkeypatch, error):
    def failing(*args, **kwargs):
        raise error(*["first line\nsecond line"][: error is not MemoryError])

    tiny_model().save_pretrained(tmp_path)
    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", failing)
    with pytest.raises(CheckpointError) as refused:
        loading.load(str(tmp_path))
    reason = error.__name__ if error is MemoryError else f"{error.__name__}: first line"
    assert str(refused.value) == f"{tmp_path} cannot be loaded. {reason}"


def test_ctrl_c_while_loading_is_no_error_of_the_checkpoint(tiny_model, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    tiny_model().save_pretrained(tmp_path)
    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loading.load(str(tmp_path))


@pytest.mark.parametrize("key", ["refresh", "to_dict"])
def test_a_key_that_takes_the_place_of_a_method_is_refused(compressed, tmp_path, key):
    saving.save(compressed(), None, tmp_path / "small")
    file = tmp_path / "small" / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"][key] = 1
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"quantization_config must not have the key '{key}'. Remove it."):
        loading.load(str(tmp_path / "small"))


@pytest.mark.parametrize("key", ["save_pretrained", "to_dict", "get_text_config"])
def test_the_same_at_the_top_of_the_config(tiny_model, tmp_path, key):
    tiny_model().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: 1}))
    with pytest.raises(CheckpointError, match=rf"config\.json must not have the key '{key}'\. Remove it\."):
        loading.load(str(tmp_path))
