"""Folding the output permutation of clustered layers into the next layer."""

import pytest
import torch
import transformers

from lpcompress.checkpoints.quantizer import replace_layers
from lpcompress.nn import from_factorization
from lpcompress.surgery.finding import find_layers
from lpcompress.surgery.folding import fold_permutations
from lpcompress.surgery.swapping import densify

FIRST = ("intermediate.dense", "lin1", "layer_1", "c_fc")


@pytest.fixture(params=["bert", "roberta", "distilbert", "xlnet", "gpt2"])
def model(request, tiny_model):
    if request.param != "gpt2":
        return tiny_model(request.param)
    torch.manual_seed(0)
    sizes = {"vocab_size": 203, "n_embd": 20, "n_inner": 32, "n_layer": 2, "n_head": 2}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()


@pytest.fixture
def compress_blocks(random_factorization, monkeypatch):
    """A function (model, kind of second layers) -> names of the first layers, clustered and not folded."""

    def compress(model, second):
        replacements = {}
        for seed, layer in enumerate(find_layers(model, ["ffn"]).values()):
            if kind := "clustered" if layer.name.endswith(FIRST) else second:
                factorization = random_factorization(kind, *layer.matrix().shape, seed)
                replacements[layer] = from_factorization(factorization, layer.module), {}
        with monkeypatch.context() as patch:
            patch.setattr("lpcompress.checkpoints.quantizer.fold_permutations", lambda model: None)
            replace_layers(model, replacements)
        return [layer.name for layer in replacements if layer.name.endswith(FIRST)]

    return compress


@pytest.mark.parametrize("second", [None, "low_rank", "clustered", "sparse", "entries"])
def test_folding_does_not_change_outputs(model, ids, compress_blocks, second):
    firsts = compress_blocks(model, second)
    assert len(firsts) == 2 and not any(model.get_submodule(name).ordered for name in firsts)
    expected = model(ids).logits
    fold_permutations(model)
    folded = second != "entries"  # their masks refer to the columns
    assert [model.get_submodule(name).ordered for name in firsts] == [folded, folded]
    torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-4)
    again = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold_permutations(model)  # no effect the second time
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_folded_layers_are_marked_in_the_config(model, ids, compress_blocks, tmp_path):
    compress_blocks(model, None)
    fold_permutations(model)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    entries = loaded.config.quantization_config.layers.values()
    assert all(entry["ordered"] is True for entry in entries)
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    densify(loaded)
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)


def test_replacing_layers_folds(tiny_model, random_factorization):
    model = tiny_model()
    name = "bert.encoder.layer.0.intermediate.dense"
    [layer] = find_layers(model, [name]).values()
    module = from_factorization(random_factorization("clustered", 32, 20), layer.module)
    replace_layers(model, {layer: (module, {})})
    assert module.ordered and model.config.quantization_config.layers["encoder.layer.0.intermediate.dense"]["ordered"]


def test_attention_is_not_folded(tiny_model, random_factorization):
    model = tiny_model()
    name = "bert.encoder.layer.0.attention.self.value"
    [layer] = find_layers(model, [name]).values()
    module = from_factorization(random_factorization("clustered", 20, 20), layer.module)
    replace_layers(model, {layer: (module, {})})
    assert not module.ordered
