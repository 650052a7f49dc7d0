"""`resize_token_embeddings` on compressed models."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
import transformers

from lpcompress import compress

ARCHITECTURES = ("bert", "roberta", "distilbert", "xlnet")
KINDS = ("low_rank", "clustered", "sparse", "levels", "coded")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tokens", [211, 201])
def test_old_logits_stay_and_the_checkpoint_has_the_new_size(compressed, ids, tmp_path, architecture, kind, tokens):
    model = compressed(architecture, "lm", kind)
    logits = model(ids).logits
    assert model.resize_token_embeddings(tokens) is model.get_input_embeddings()
    assert model.config.vocab_size == tokens == model.get_output_embeddings().out_features
    resized = model(ids).logits
    torch.testing.assert_close(resized[..., :201], logits[..., :201], atol=1e-5, rtol=1e-5)
    assert resized.shape[-1] == tokens
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits, resized)
    again.resize_token_embeddings(tokens + 3)
    torch.testing.assert_close(again(ids).logits[..., :tokens], resized, atol=1e-5, rtol=1e-5)


def test_padding_to_a_multiple_and_doing_nothing(compressed):
    model = compressed("bert", "lm", "clustered")
    model.resize_token_embeddings(pad_to_multiple_of=64)
    assert model.config.vocab_size == 256 == model.get_input_embeddings().num_embeddings
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    assert model.cls.predictions.bias is model.cls.predictions.decoder.bias
    assert model.cls.predictions.bias.shape == (256,)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_resizing_a_copy_does_not_change_the_original(compressed, ids, clone):
    model = compressed("bert", "classifier", "sparse")
    other = clone(model)
    other.resize_token_embeddings(210)
    assert other.config.vocab_size == 210 == other.get_input_embeddings().num_embeddings
    assert model.config.vocab_size == 203 == model.get_input_embeddings().num_embeddings
    assert other.config.quantization_config.layers["embeddings.word_embeddings"]["shape"][0] == 210
    assert model.config.quantization_config.layers["embeddings.word_embeddings"]["shape"][0] == 203


def test_the_base_model_can_be_resized_too(compressed):
    model = compressed("roberta", "classifier", "clustered")
    model.roberta.resize_token_embeddings(210)
    assert model.config.vocab_size == 210
    assert model.config.quantization_config.layers["embeddings.word_embeddings"]["shape"][0] == 210


def test_no_cycle_keeps_a_model_in_memory(compressed):
    model = compressed("bert", "lm", "sparse")
    alive = weakref.ref(model.get_input_embeddings())
    gc.disable()
    try:
        del model
        assert alive() is None
    finally:
        gc.enable()


def test_a_bias_per_token_that_the_class_adds_is_resized_after_reloading(tmp_path):
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 40, "vocab_size": 203}
    layers = {"l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 6, "num_qa_labels": 5}
    config = transformers.LxmertConfig(**sizes, **layers, num_object_labels=4, num_attr_labels=4)
    model = transformers.LxmertForPreTraining(config).eval()
    compress(model, ratio=0.5, method="svd")
    model.save_pretrained(tmp_path)
    again = transformers.LxmertForPreTraining.from_pretrained(tmp_path)
    inputs = {
        "input_ids": torch.arange(8).unsqueeze(0),
        "visual_feats": torch.linspace(-1, 1, 24).view(1, 4, 6),
        "visual_pos": torch.linspace(0, 1, 16).view(1, 4, 4),
    }
    before = again(**inputs).prediction_logits
    again.resize_token_embeddings(211)
    after = again(**inputs).prediction_logits
    assert again.cls.predictions.bias.shape == (211,) and after.shape[-1] == 211
    torch.testing.assert_close(after[..., :203], before, atol=1e-5, rtol=1e-5)
