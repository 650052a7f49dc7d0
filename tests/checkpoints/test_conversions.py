"""Names and layouts of compressed layers in files: fused projections, bare weights, models made of models."""

import copy
import pickle

import pytest
import torch
import transformers
from safetensors.torch import load_file

import lpcompress
from lpcompress.nn import is_compressed_module

ONE = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
IDS = torch.tensor([[5, 6, 7, 8]])


def xlnet():
    config = transformers.XLNetConfig(vocab_size=60, d_model=16, n_layer=2, n_head=2, d_inner=20)
    return transformers.XLNetForSequenceClassification(config).eval()


def bert():
    return transformers.BertForSequenceClassification(transformers.BertConfig(**ONE)).eval()


def outputs(model):
    with torch.no_grad():
        return model(IDS)[0]


@pytest.mark.parametrize("make", [xlnet, bert])
@pytest.mark.parametrize("clone", [lambda model: model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_files_tensors_load_into_a_compressed_model(make, clone, tmp_path):
    model = make()
    lpcompress.compress(model, ratio=0.3, method="svd", layers=["all"])
    model.save_pretrained(tmp_path)
    expected, other = outputs(model), clone(type(model).from_pretrained(tmp_path))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    for state in (load_file(tmp_path / "model.safetensors"), model.state_dict()):
        other.load_state_dict(state)  # strict
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())
        torch.testing.assert_close(outputs(other), expected)  # memory of copies is not aligned, so sums differ


def test_the_best_checkpoint_of_a_training_run_is_restored(tmp_path):
    model = xlnet()
    lpcompress.compress(model, ratio=0.3, method="svd", layers=["all"])
    rows = [{"input_ids": torch.randint(0, 60, (6,)), "labels": torch.tensor(i % 2)} for i in range(8)]
    often = {"max_steps": 4, "eval_steps": 2, "save_steps": 2, "eval_strategy": "steps", "save_strategy": "steps"}
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True}
    settings = transformers.TrainingArguments(
        tmp_path, **often, **quiet, load_best_model_at_end=True, learning_rate=0.1, per_device_train_batch_size=2
    )
    trainer = transformers.Trainer(model, settings, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    best = type(model).from_pretrained(trainer.state.best_model_checkpoint)
    assert torch.equal(outputs(model.eval()), outputs(best))


@pytest.mark.parametrize("layers", [["linear"], ["*.self_attn.q_proj"], ["embedding"]])
def test_codes_of_fused_projections_are_neither_joined_nor_split(layers, tmp_path):
    model = transformers.NomicBertModel(transformers.NomicBertConfig(**ONE)).eval()
    model.save_pretrained(tmp_path / "dense")
    assert any("Wqkv" in key for key in load_file(tmp_path / "dense" / "model.safetensors"))  # one tensor in the file
    for name, made in {"new": model, "loaded": type(model).from_pretrained(tmp_path / "dense")}.items():
        lpcompress.compress(made, ratio=0.3, method="svd", layers=layers)
        expected = outputs(made)
        made.save_pretrained(tmp_path / name)
        loaded = type(model).from_pretrained(tmp_path / name)
        assert torch.equal(outputs(loaded), expected)
        loaded.save_pretrained(tmp_path / f"{name} again")
        assert torch.equal(outputs(type(model).from_pretrained(tmp_path / f"{name} again")), expected)
        loaded.dequantize()
        loaded.save_pretrained(tmp_path / f"{name} plain")
        plain = type(model).from_pretrained(tmp_path / f"{name} plain")
        torch.testing.assert_close(outputs(plain), expected, atol=1e-4, rtol=1e-4)


def parts():
    encoder = transformers.BertModel(transformers.BertConfig(**ONE))
    decoder = transformers.BertLMHeadModel(transformers.BertConfig(**ONE, is_decoder=True, add_cross_attention=True))
    return encoder, decoder


def test_a_model_made_of_compressed_models_loads(tmp_path):
    encoder, decoder = parts()
    for part in (encoder, decoder):
        lpcompress.compress(part, ratio=0.3, method="svd", layers=["embedding", "ffn"])
    model = transformers.EncoderDecoderModel(encoder=encoder, decoder=decoder).eval()
    expected = model(input_ids=IDS, decoder_input_ids=IDS).logits
    model.save_pretrained(tmp_path / "first")
    loaded = transformers.EncoderDecoderModel.from_pretrained(tmp_path / "first")
    assert torch.equal(loaded(input_ids=IDS, decoder_input_ids=IDS).logits, expected)
    loaded.save_pretrained(tmp_path / "second")
    again = transformers.EncoderDecoderModel.from_pretrained(tmp_path / "second")
    assert torch.equal(again(input_ids=IDS, decoder_input_ids=IDS).logits, expected)
    assert sum(map(is_compressed_module, again.modules())) == 6


def test_a_model_of_which_only_the_encoder_is_compressed_is_never_loaded_with_random_weights(tmp_path):
    encoder, decoder = parts()
    lpcompress.compress(encoder, ratio=0.3, method="svd")
    model = transformers.EncoderDecoderModel(encoder=encoder, decoder=decoder)
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="mismatch"):
        transformers.EncoderDecoderModel.from_pretrained(tmp_path)
