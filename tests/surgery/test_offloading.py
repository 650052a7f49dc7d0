"""Models whose tensors are kept on disk: compressed to the same bytes, with one layer in memory at a time."""

import gc
import os
import tempfile

import pytest
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lpcompress.checkpoints import loading, saving
from lpcompress.compression.whole_model import compress, preview
from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.surgery.finding import find_layers
from lpcompress.surgery.layer import layers_of
from lpcompress.surgery.offloading import editable, in_memory, is_offloaded, offload, stored_tensor, unreadable

SMALL = "8KB"  # shard size that gives several shards


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """The directory for temporary files; it must be empty after the test."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert os.listdir(folder) == []


@pytest.fixture
def both_ways(tmp_path):
    """A function (source, **wish) -> checkpoints compressed with the model in memory, and with the model on disk."""

    def run(source, **wish):
        for place in ("memory", "disk"):
            model, _ = loading.load(str(source), on_disk=place == "disk")
            compress(model, row_weights="uniform", **wish)
            saving.save(model, None, tmp_path / place, overwrite=True, max_shard_size=SMALL)
        return tmp_path / "memory", tmp_path / "disk"

    return run


def tensors_of(folder):
    return {key: tensor for file in folder.glob("*.safetensors") for key, tensor in load_file(file).items()}


def assert_same(first, second):
    assert (first / "config.json").read_text() == (second / "config.json").read_text()
    ours, theirs = tensors_of(first), tensors_of(second)
    assert ours.keys() == theirs.keys()
    assert [
        key for key in ours if ours[key].dtype != theirs[key].dtype or not torch.equal(ours[key], theirs[key])
    ] == []


@pytest.mark.parametrize(
    ("architecture", "head", "method", "dtype", "shard_size"),
    [
        ("bert", "lm", "adaptive", torch.float32, SMALL),
        ("bert", "base", "svd", torch.bfloat16, "1GB"),
        ("roberta", "classifier", "svd", torch.float16, SMALL),
        ("roberta", "lm", "svd", torch.float32, "1GB"),
        ("xlnet", "lm", "coded", torch.float32, SMALL),
        ("roberta", "lm", "coded", torch.float16, SMALL),
        ("distilbert", "lm", "messi", torch.float32, SMALL),
        ("xlnet", "lm", "svd", torch.float32, SMALL),
        ("xlnet", "classifier", "messi", torch.float16, SMALL),
    ],
)
def test_the_same_bytes_as_in_memory(
    tiny_model, ids, tmp_path, both_ways, architecture, head, method, dtype, shard_size
):
    depth = {"distilbert": "n_layers", "xlnet": "n_layer"}.get(architecture, "num_hidden_layers")
    dense = tiny_model(architecture, head, **{depth: 1}).to(dtype)
    dense.save_pretrained(tmp_path / "source", max_shard_size=shard_size)
    clusters = 2 if method == "messi" else None
    memory, disk = both_ways(tmp_path / "source", method=method, ratio=0.3, layers=["all"], clusters=clusters)
    assert_same(memory, disk)
    loaded = [type(dense).from_pretrained(folder, dtype=torch.float32)(ids) for folder in (memory, disk)]
    assert torch.equal(loaded[0][0], loaded[1][0])


def test_only_the_layer_in_use_is_in_memory(tiny_model, tmp_path):
    dense = tiny_model("xlnet", "lm")
    dense.save_pretrained(tmp_path / "source", max_shard_size=SMALL)
    model, _ = loading.load(str(tmp_path / "source"), on_disk=True)
    assert all(tensor.is_meta for tensor in model.parameters())
    for name, layer in find_layers(model, ["all"]).items():
        with layer.lend() as lent:
            assert torch.equal(lent.module.weight, layers_of(dense)[name].module.weight)
            here = {parameter for parameter in model.parameters() if not parameter.is_meta}
            assert here == set(layer.holder.parameters(recurse=False))
    compress(model, method="svd", ratio=0.3, layers=["all"], row_weights="uniform")
    assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()] if tensor.numel() > 203)


def test_a_tied_head_is_counted_once_even_after_layers_were_loaded(tiny_model, tmp_path):
    dense = tiny_model("bert", "lm")
    dense.save_pretrained(tmp_path / "source")
    model, _ = loading.load(str(tmp_path / "source"), on_disk=True)
    wish = {"layers": ["all"], "method": "svd", "target_size": 0.5, "row_weights": "uniform"}
    expected = preview(dense, **wish)
    assert preview(model, **wish) == expected and preview(model, **wish) == expected
    assert compress(model, **wish).parameters_before == sum(parameter.numel() for parameter in dense.parameters())


def test_permutations_are_folded_into_plain_layers(tiny_model, tmp_path, both_ways):
    tiny_model().save_pretrained(tmp_path / "source")
    memory, disk = both_ways(tmp_path / "source", method="messi", clusters=2, layers=["*intermediate.dense"])
    assert_same(memory, disk)
    key = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(tensors_of(disk)[key], tensors_of(tmp_path / "source")[key])
    assert '"ordered": true' in (disk / "config.json").read_text()


def test_an_embedding_that_cannot_reach_the_size_stays_dense_and_tied(tiny_model, tmp_path, both_ways):
    tiny_model("bert", "lm", intermediate_size=400).save_pretrained(tmp_path / "source")
    memory, disk = both_ways(tmp_path / "source", method="svd", ratio=0.945, layers=["all"])
    assert_same(memory, disk)
    assert "bert.embeddings.word_embeddings.basis" not in tensors_of(disk)
    assert "bert.encoder.layer.0.output.dense.basis" in tensors_of(disk)
    assert "cls.predictions.decoder.weight" not in tensors_of(disk)


def test_old_names_and_a_missing_prefix(tiny_model, tmp_path, both_ways):
    tiny_model().save_pretrained(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta", "bert.": ""}
    renamed = {}
    for key, tensor in load_file(file).items():
        for new, former in old.items():
            key = key.replace(new, former)
        renamed[key] = tensor
    save_file(renamed, file)
    assert_same(*both_ways(tmp_path / "source", method="svd", layers=["all"]))


@pytest.mark.parametrize("layers", ["embedding", "linear"])
@pytest.mark.parametrize("stored", ["shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head"])
@pytest.mark.parametrize("pickled", [False, True])
def test_a_shared_weight_that_is_stored_under_one_of_its_names(tmp_path, both_ways, layers, stored, pickled):
    sizes = {"d_model": 20, "d_kv": 10, "num_heads": 2, "d_ff": 32, "num_layers": 1, "vocab_size": 203}
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, decoder_start_token_id=0))
    model.save_pretrained(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    state = load_file(file)
    state[f"{stored}.weight"] = state.pop("shared.weight")
    file.unlink()
    if pickled:
        torch.save(state, file.with_name("pytorch_model.bin"))
    else:
        save_file(state, file, metadata={"format": "pt"})
    memory, disk = both_ways(tmp_path / "source", layers=[layers], method="svd", ratio=0.3)
    torch.testing.assert_close(tensors_of(disk), tensors_of(memory))  # a pickle's tensors are aligned differently


def test_tensors_that_transformers_joins_are_loaded_into_memory(tmp_path, both_ways):
    """It would split them wrongly when it saves them from several files."""
    sizes = {"vocab_size": 203, "hidden_size": 20, "num_attention_heads": 2, "num_hidden_layers": 2}
    torch.manual_seed(0)
    dense = transformers.NomicBertModel(transformers.NomicBertConfig(**sizes, intermediate_size=32))
    dense.save_pretrained(tmp_path / "source", max_shard_size=SMALL)
    assert len(list((tmp_path / "source").glob("*.safetensors"))) > 2
    assert loading.load(str(tmp_path / "source"), on_disk=True)[0].device.type == "cpu"
    memory, disk = both_ways(tmp_path / "source", layers=["embedding"], method="svd", ratio=0.3)
    assert_same(memory, disk)
    theirs = dict(transformers.NomicBertModel.from_pretrained(disk).named_parameters())
    kept = {name: tensor for name, tensor in dense.named_parameters() if "word_embeddings" not in name}
    assert [name for name, tensor in kept.items() if not torch.equal(tensor, theirs[name])] == []


def test_a_pickle(tiny_model, tmp_path):
    dense = tiny_model()
    dense.save_pretrained(tmp_path / "source")
    torch.save(dense.state_dict(), tmp_path / "source" / "pytorch_model.bin")
    (tmp_path / "source" / "model.safetensors").unlink()
    model, _ = loading.load(str(tmp_path / "source"), on_disk=True)
    with layers_of(model)["bert.pooler.dense"].lend() as layer:
        assert torch.equal(layer.module.weight, dense.bert.pooler.dense.weight)


def test_missing_weights_give_a_warning_or_an_error(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    weights = load_file(file)
    save_file({key: tensor for key, tensor in weights.items() if "classifier" not in key}, file)
    with pytest.warns(UserWarning, match="these weights are random"):
        model, _ = loading.load(str(tmp_path / "source"), on_disk=True)
    saving.save(model, None, tmp_path / "out")
    assert torch.equal(tensors_of(tmp_path / "out")["classifier.weight"], model.classifier.weight)
    save_file({key: tensor for key, tensor in weights.items() if "word_emb" not in key}, file)
    with pytest.raises(LpCompressError, match=r"It lacks bert\.embeddings\.word_embeddings\.weight"):
        loading.load(str(tmp_path / "source"), on_disk=True)


def test_an_error_leaves_the_tensors_on_disk(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path / "source")
    model, _ = loading.load(str(tmp_path / "source"), on_disk=True)
    with pytest.raises(LpCompressError, match="Ask for a smaller ratio"):
        compress(model, method="svd", ratio=0.9999, row_weights="uniform")
    assert all(tensor.is_meta for tensor in model.parameters())


def test_a_module_is_moved_to_a_file_and_edited(scratch):
    module = nn.Linear(3, 2)
    expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    offload(module, module.state_dict())
    assert is_offloaded(module) and module.weight.is_meta and len(os.listdir(scratch)) == 1
    with in_memory(module), torch.no_grad():
        assert torch.equal(module.weight, expected["weight"])
        module.weight.zero_()  # lost
    with editable(module), torch.no_grad():
        module.bias.zero_()  # kept
    assert module.weight.is_meta and len(os.listdir(scratch)) == 1
    assert torch.equal(stored_tensor(module, "weight"), expected["weight"])
    assert torch.equal(stored_tensor(module, "bias"), torch.zeros(2))
    assert torch.equal(module(torch.ones(1, 3)), expected["weight"].sum(1).unsqueeze(0))


def test_a_module_in_memory_stays_in_memory():
    module = nn.Linear(3, 2)
    weight = module.weight
    with editable(module), torch.no_grad():
        weight.zero_()
    assert module.weight is weight and not is_offloaded(module)
    assert stored_tensor(module, "weight").data_ptr() == weight.data_ptr()


@pytest.mark.parametrize("error", [OSError, SafetensorError])
def test_a_full_temporary_directory_is_reported(tiny_model, tmp_path, scratch, monkeypatch, error):
    def fail(*_):
        raise error("No space left on device (os error 28)")

    tiny_model().save_pretrained(tmp_path / "model")
    model, _ = loading.load(str(tmp_path / "model"), on_disk=True)
    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(CheckpointError, match=f"^{scratch} cannot hold the temporary files: .*28.* set TMPDIR to"):
        compress(model, row_weights="uniform", method="svd")


@pytest.mark.parametrize("on_disk", [False, True])
def test_weights_whose_sizes_differ_from_the_config_are_refused(tiny_model, tmp_path, on_disk):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    model.config.hidden_size = 40
    model.config.save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"cannot be loaded\. The sizes of its weights differ from those in its config\.json"
    ):
        loading.load(str(tmp_path), on_disk=on_disk)


def test_a_model_that_has_tensors_neither_in_memory_nor_in_files_is_unreadable(tiny_model):
    model = tiny_model()
    assert unreadable(model) == []
    assert set(unreadable(model.to("meta"))) >= {name for name, _ in model.named_parameters()}  # transformers 5.0
