"""The check of a checkpoint before it is put in place."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import lpcompress
from lpcompress.checkpoints import saving
from lpcompress.checkpoints.loading import load
from lpcompress.checkpoints.verification import Probe, verify
from lpcompress.errors import CheckpointError
from lpcompress.formats import coded
from lpcompress.formats.coded_stream import unpack

ONE = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
TWO = {
    **{"vocab_size": 60, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 20},
    **{"decoder_ffn_dim": 20, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
}
IMAGES = {"image_size": 16, "patch_size": 8}

MODELS = {
    "BertForSequenceClassification": ONE,
    "GPT2ForSequenceClassification": {"vocab_size": 60, "n_embd": 16, "n_layer": 1, "n_head": 2},
    "T5ForConditionalGeneration": {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 20, "num_layers": 1},
    "BartForSequenceClassification": TWO,
    "ViTForImageClassification": ONE | IMAGES,
    "CLIPModel": {"text_config": ONE, "vision_config": ONE | IMAGES, "projection_dim": 16},
    "WhisperForConditionalGeneration": TWO | {"num_mel_bins": 8, "max_source_positions": 20, "pad_token_id": 0},
    "Wav2Vec2ForCTC": ONE
    | {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_conv_pos_embeddings": 4}
    | {"num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2},
}


def build(name):
    torch.manual_seed(0)
    cls = getattr(transformers, name)
    return cls(cls.config_class(**MODELS[name])).eval()


def written(directory, change=lambda model: None, **options):
    """Write a compressed BERT to a directory, and return it with its probe."""
    model = build("BertForSequenceClassification")
    probe = Probe.of(model)
    lpcompress.compress(model, ratio=0.3, method="svd", layers=["all"])
    change(model)
    saving.write(directory, model, None, **options)
    return model, probe


@pytest.mark.parametrize("name", MODELS)
def test_inputs_are_known_for_models_of_every_kind(name):
    model = build(name)
    probe = Probe.of(model)
    assert probe.inputs is not None
    assert all(torch.equal(tensor, Probe.of(model).inputs[key]) for key, tensor in probe.inputs.items())


def test_a_model_without_known_inputs_has_its_tensors_compared(tmp_path):
    model, _ = written(tmp_path)
    assert not verify(tmp_path, model, Probe(None)).outputs


@pytest.mark.parametrize("shards", [None, 4000])
def test_a_right_checkpoint_passes(tmp_path, shards):
    model, probe = written(tmp_path, max_shard_size=shards)
    shares = []
    found = verify(tmp_path, model, probe, shares.append)
    assert found.outputs and found.seconds > 0
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] == 1
    assert model.training is False


@pytest.mark.parametrize("key", ["bert.embeddings.word_embeddings.basis", "classifier.bias", "bert.pooler.dense.bias"])
def test_a_bit_that_differs_is_found(tmp_path, key):
    model, probe = written(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[key].view(torch.int32).view(-1)[3 % tensors[key].numel()] ^= 1  # the lowest bit of a float
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"holds other values than the model: {key}.*--no-verify"):
        verify(tmp_path, model, probe)


def test_a_checkpoint_that_cannot_be_loaded_is_found(tmp_path):
    model, probe = written(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"cannot be loaded again: .*Nothing was written"):
        verify(tmp_path, model, probe)


def test_a_model_that_no_longer_runs_is_found(tmp_path):
    model, probe = written(tmp_path)
    model.bert.pooler.forward = lambda hidden: hidden @ torch.ones(3)
    with pytest.raises(CheckpointError, match="the compressed model does not run: RuntimeError"):
        verify(tmp_path, model, probe)


def test_other_outputs_of_equal_tensors_are_found(tmp_path):
    model, probe = written(tmp_path)
    model.dropout = nn.Identity()
    model.classifier.register_forward_hook(lambda module, inputs, output: output + 1)
    with pytest.raises(CheckpointError, match="gives other outputs than the model"):
        verify(tmp_path, model, probe)


@pytest.mark.parametrize("on_disk", [True, False])
def test_tensors_on_disk_are_compared_too(tmp_path, on_disk):
    model = build("BertForSequenceClassification")
    model.save_pretrained(tmp_path / "dense")
    model, _ = load(str(tmp_path / "dense"), on_disk=on_disk)
    probe = Probe.of(model)
    assert probe.inputs is not None
    lpcompress.compress(model, ratio=0.3, method="svd")
    done = saving.write(tmp_path / "small", model, None, probe=probe)
    assert done.verification.outputs
    tensors = load_file(tmp_path / "small" / "model.safetensors")
    tensors["classifier.bias"] += 1
    save_file(tensors, tmp_path / "small" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"other values than the model: classifier\.bias"):
        verify(tmp_path / "small", model, probe)


def test_a_model_that_runs_in_memory_only_is_compared_without_a_word(tmp_path, caplog):
    torch.manual_seed(0)
    config = transformers.XLNetConfig(vocab_size=60, d_model=16, n_layer=1, n_head=2, d_inner=20)
    transformers.XLNetForSequenceClassification(config).half().save_pretrained(tmp_path / "dense")
    model, _ = load(str(tmp_path / "dense"), on_disk=True)
    probe = Probe.of(model)
    lpcompress.compress(model, ratio=0.3, method="svd")
    assert saving.write(tmp_path / "small", model, None, probe=probe).verification.outputs
    assert "accelerate hooks" not in caplog.text


def test_an_embedding_on_disk_is_decoded_once_for_its_check_and_all_outputs(tmp_path, monkeypatch):
    torch.manual_seed(0)
    dense = transformers.BertForMaskedLM(transformers.BertConfig(**ONE)).eval()  # its head is tied to the embedding
    dense.save_pretrained(tmp_path / "dense")
    model, _ = load(str(tmp_path / "dense"), on_disk=True)
    probe = Probe.of(model)
    lpcompress.compress(model, ratio=0.3, method="coded")
    saving.write(tmp_path / "small", model, None)
    decoded = []
    monkeypatch.setattr(coded, "unpack", lambda *given: decoded.append(given) or unpack(*given))
    assert verify(tmp_path / "small", model, probe).outputs
    assert len(decoded) == 1 and model.get_input_embeddings().codes is None


def test_nothing_is_left_when_the_check_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise CheckpointError("no")

    monkeypatch.setattr("lpcompress.checkpoints.verification.verify", fail)
    model = build("BertForSequenceClassification")
    with pytest.raises(CheckpointError, match="no"):
        saving.save(model, None, tmp_path / "out", probe=Probe.of(model))
    assert not [*tmp_path.iterdir()]
