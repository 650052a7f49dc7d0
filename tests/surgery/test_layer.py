"""The handle of a layer: its properties, access to its tensors, and replacement."""

import pytest
import torch
from torch import nn

from lpcompress.checkpoints import loading
from lpcompress.errors import LpCompressError
from lpcompress.nn import BareWeight, from_factorization
from lpcompress.surgery.layer import Layer, layers_of

ARCHITECTURES = ("bert", "roberta", "distilbert", "xlnet")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_module_and_every_bare_weight_has_a_handle_in_model_order(tiny_model, architecture):
    model = tiny_model(architecture, "lm")
    layers = layers_of(model)
    bare = {name for name, layer in layers.items() if layer.equation}
    assert len(bare) == (10 if architecture == "xlnet" else 0)
    assert [name for name in layers if name not in bare] == [name for name, _ in model.named_modules() if name]
    for name, layer in layers.items():
        assert layer.name == name and layer.holder is (layer.owner if name in bare else layer.module)
        if name in bare:
            assert isinstance(layer.module, BareWeight) and layer.module.weight is getattr(layer.owner, layer.leaf)
        else:
            assert layer.module is model.get_submodule(name)
    assert [layer.module for layer in layers.values() if layer.is_word_embedding] == [model.get_input_embeddings()]


def test_a_handle_stays_valid_when_its_layer_is_replaced(tiny_model, random_factorization):
    model = tiny_model("xlnet")
    for name in ("transformer.layer.0.rel_attn.q", "transformer.layer.0.ff.layer_1", "transformer.word_embedding"):
        layer = layers_of(model)[name]
        plain, role = layer.module, layer.role
        module = from_factorization(random_factorization("low_rank", *layer.matrix().shape), plain)
        layer.replace(module)
        assert layer.module is module is model.get_submodule(name) and layer.is_compressed and layer.role == role
        layer.replace(plain)
        assert layer.module.weight is plain.weight and not layer.is_compressed


def test_the_matrix_to_fit_has_a_zero_padding_row_and_the_weight_is_not_changed(tiny_model):
    layers = layers_of(tiny_model())
    embedding, linear = layers["bert.embeddings.word_embeddings"], layers["bert.pooler.dense"]
    with torch.no_grad():
        embedding.module.weight.fill_(3.0)
    fitted = embedding.matrix_to_fit()
    assert embedding.padding_idx == 0 and linear.padding_idx is None
    assert not fitted[0].any() and torch.equal(fitted[1:], embedding.matrix()[1:])
    assert bool((embedding.module.weight == 3).all())
    with torch.no_grad():
        embedding.module.weight[0] = 0
    assert embedding.matrix_to_fit().data_ptr() == embedding.module.weight.data_ptr()
    assert linear.matrix_to_fit().data_ptr() == linear.module.weight.data_ptr()  # no copy if none is needed


def test_the_padding_row_of_a_layer_on_disk_is_zeroed_without_a_copy(tiny_model, tmp_path):
    dense = tiny_model()
    torch.nn.init.ones_(dense.bert.embeddings.word_embeddings.weight)
    dense.save_pretrained(tmp_path)
    model, _ = loading.load(str(tmp_path), on_disk=True)
    layer = layers_of(model)["bert.embeddings.word_embeddings"]
    with layer.lend():
        fitted = layer.matrix_to_fit()
        assert fitted.data_ptr() == layer.module.weight.data_ptr() and not fitted[0].any()
    with layer.lend():
        assert bool((layer.matrix() == 1).all()) and not fitted[0].any()
    assert bool((loading.load(str(tmp_path))[0].get_input_embeddings().weight == 1).all())  # the file is as it was


def test_bytes_stored_besides_the_factors(tiny_model):
    layers = layers_of(tiny_model())
    assert layers["bert.embeddings.word_embeddings"].bytes_beside() == 20 * 4  # the padding row
    assert layers["bert.embeddings.position_embeddings"].bytes_beside() == 0
    assert layers["bert.pooler.dense"].bytes_beside() == 20 * 4  # the bias
    assert layers["bert.pooler.dense"].stored() == (420, 1680)


def test_sizes_of_layers_on_disk(tiny_model, tmp_path):
    dense = tiny_model("xlnet")
    dense.save_pretrained(tmp_path)
    model, _ = loading.load(str(tmp_path), on_disk=True)
    here, there = layers_of(dense), layers_of(model)
    for name in ("transformer.word_embedding", "transformer.layer.0.rel_attn.o", "transformer.layer.1.ff.layer_2"):
        assert there[name].is_offloaded and not here[name].is_offloaded
        assert there[name].stored() == here[name].stored()
        with there[name].lend() as layer:
            kept = layer.matrix_to_fit()
        assert torch.equal(kept, here[name].matrix_to_fit())  # valid after the block


def test_heads_and_poolers_are_not_in_the_body(tiny_model):
    layers = layers_of(tiny_model())
    assert [name for name, layer in layers.items() if layer.role == "linear" and not layer.in_body] == [
        "bert.pooler.dense",
        "classifier",
    ]


def test_a_layer_without_a_matrix_is_refused():
    layer = Layer("norm", nn.ModuleDict({"norm": nn.LayerNorm(3)}), "norm")
    assert layer.role is None and not layer.has_matrix
    for method in (layer.matrix, layer.refuse, layer.bytes_beside):
        with pytest.raises(LpCompressError, match="a LayerNorm has no matrix that can be factored"):
            method()
