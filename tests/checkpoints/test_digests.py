"""Damaged weight files and layer maps are refused while loading; files without digests load as before."""

import json
import threading

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from lpcompress.checkpoints import digests
from lpcompress.checkpoints.digests import KEY, of_tensor
from lpcompress.checkpoints.layout import lay_out
from lpcompress.errors import CheckpointError
from lpcompress.surgery.offloading import quiet_offloading

NAME = "embeddings.word_embeddings"


@pytest.fixture
def saved(compressed, tmp_path):
    """A function (architecture, head, kind, **options of save_pretrained) -> the directory of a compressed model."""

    def make(architecture="bert", head="classifier", kind="sparse", config=None, **options):
        compressed(architecture, head, kind, **config or {}).save_pretrained(tmp_path / "saved", **options)
        return tmp_path / "saved"

    return make


def load(directory, **options):
    return AutoModelForSequenceClassification.from_pretrained(directory, **options)


def flip(file, tensor, byte=0):
    """Flip the lowest bit of one byte of a tensor in a file."""
    content = bytearray(file.read_bytes())
    length = int.from_bytes(content[:8], "little")
    start, _ = json.loads(content[8 : 8 + length])[tensor]["data_offsets"]
    content[8 + length + start + byte] ^= 1
    file.write_bytes(content)


def edit(file, change):
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("tensor", [f"bert.{NAME}.weight", f"bert.{NAME}.levels", "classifier.weight"])
@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_flipped_bit_is_found(saved, tmp_path, tensor, on_disk, dtype):
    directory = saved(kind="levels")
    flip(directory / "model.safetensors", tensor)
    placement = {"device_map": {"": "disk"}, "offload_folder": str(tmp_path / "o")} if on_disk else {}
    with pytest.raises(CheckpointError, match=rf"saved/model.safetensors: tensor {tensor} is damaged or was changed"):
        load(directory, dtype=dtype, **placement)


def test_the_check_can_be_switched_off(saved, monkeypatch):
    directory = saved()
    flip(directory / "model.safetensors", "classifier.weight")
    monkeypatch.setenv("LPCOMPRESS_VERIFY", "0")
    changed = load(directory)
    changed.save_pretrained(directory)  # which writes new digests
    monkeypatch.delenv("LPCOMPRESS_VERIFY")
    assert torch.equal(load(directory).classifier.weight, changed.classifier.weight)


@pytest.mark.parametrize("kind", ["low_rank", "clustered", "sparse"])
@pytest.mark.parametrize("architecture", ["bert", "xlnet"])
def test_what_was_saved_again_has_digests_again(saved, architecture, kind, ids):
    directory = saved(architecture, kind=kind)
    model = load(directory)
    model.resize_token_embeddings(210, mean_resizing=False)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    model = model.half() if architecture == "bert" else model  # XLNet's attention stays in float32
    model.save_pretrained(directory / "again", max_shard_size="10KB")
    assert torch.equal(load(directory / "again")(ids).logits, model(ids).logits)
    shards = sorted((directory / "again").glob("model-*.safetensors"))
    assert len(shards) > 1
    [name, *_] = load_file(shards[1])
    flip(shards[1], name)
    with pytest.raises(CheckpointError, match=f"{shards[1].name}: tensor {name} is damaged"):
        load(directory / "again")


def test_offloaded_models_are_saved_with_the_same_digests(saved, tmp_path):
    directory = saved("xlnet", kind="levels", config={"tie_word_embeddings": True})
    model = load(directory, device_map={"": "disk"}, offload_folder=str(tmp_path / "o"))
    with quiet_offloading():
        model.save_pretrained(directory / "again")
    tables = []
    for file in (directory / "model.safetensors", directory / "again" / "model.safetensors"):
        with safe_open(file, "pt") as content:
            tables.append(content.metadata()[KEY])
    assert tables[0] == tables[1]
    load(directory / "again")


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.update(padding_idx=3),
        lambda layer: layer.update(padding_idx=None),
        lambda layer: layer.update(p=2.0),
    ],
)
def test_an_edited_layer_map_is_found(saved, change):
    directory = saved(config={"pad_token_id": 0})
    edit(directory / "config.json", lambda config: change(config["quantization_config"]["layers"][NAME]))
    with pytest.raises(CheckpointError, match=r"config.json: (the layers of quant|.*padding_idx|.*lacks)"):
        load(directory)


def test_other_keys_of_the_config_may_be_edited(saved, ids):
    directory = saved()
    before = load(directory)(ids).logits
    edit(directory / "config.json", lambda config: config.update(id2label={0: "no", 1: "yes"}, pad_token_id=5))
    assert torch.equal(load(directory)(ids).logits[0], before[0])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda index, names: index["weight_map"].update({names[0][0]: names[1][1]}), "is not where this index says"),
        (lambda index, names: index["weight_map"].pop(names[0][0]), "is not where this index says"),
        (lambda index, names: index.update(weight_map={key: names[0][1] for key, _ in names}), "is missing"),
        (lambda index, names: index["weight_map"].update(new=names[0][1]), "tensor new is not where this index says"),
    ],
)
def test_a_wrong_index_is_found(saved, change, problem):
    directory = saved(max_shard_size="10KB")
    index = directory / "model.safetensors.index.json"
    names = sorted(json.loads(index.read_text())["weight_map"].items(), key=lambda item: item[1])
    names = [names[0], names[-1], *names[1:-1]]
    edit(index, lambda document: change(document, names))
    with pytest.raises(CheckpointError, match=problem):
        load(directory)


def test_shards_of_two_checkpoints_are_not_mixed(saved, compressed):
    directory = saved(max_shard_size="10KB")
    compressed(seed=1).save_pretrained(directory / "other", max_shard_size="10KB")
    shard = sorted(directory.glob("model-*.safetensors"))[-1]
    shard.write_bytes((directory / "other" / shard.name).read_bytes())
    with pytest.raises(CheckpointError, match="must belong to one checkpoint"):
        load(directory)


def test_missing_and_foreign_tensors_are_named(saved):
    directory = saved()
    file = directory / "model.safetensors"
    with safe_open(file, "pt") as content:
        metadata = content.metadata()
    weights = load_file(file)
    moved = {key.replace("classifier.bias", "classifier.bios"): tensor for key, tensor in weights.items()}
    save_file(moved, file, metadata)
    with pytest.raises(CheckpointError, match=r"tensor classifier\.bios does not belong there"):
        load(directory)
    save_file({key: tensor for key, tensor in weights.items() if key != "classifier.bias"}, file, metadata)
    with pytest.raises(CheckpointError, match=r"tensor classifier\.bias is missing"):
        load(directory)
    save_file(weights, file, metadata | {KEY: "[1, 2"})
    with pytest.raises(CheckpointError, match="must hold digests in its metadata"):
        load(directory)


def test_files_without_digests_load_and_are_checked_as_before(saved, tmp_path, ids):
    directory = saved("bert", "lm", "sparse", {"pad_token_id": 0})
    file = directory / "model.safetensors"
    weights = load_file(file)
    before = AutoModelForMaskedLM.from_pretrained(directory)(ids).logits
    save_file(weights, file, {"format": "pt"})
    assert torch.equal(AutoModelForMaskedLM.from_pretrained(directory)(ids).logits, before)
    edit(directory / "config.json", lambda config: config["quantization_config"]["layers"][NAME].update(padding_idx=3))
    with pytest.raises(CheckpointError, match=r"'padding_idx' must be that of the model's layer, 0\. Got 3"):
        AutoModelForMaskedLM.from_pretrained(directory)
    edit(directory / "config.json", lambda config: config["quantization_config"]["layers"][NAME].update(padding_idx=0))
    weights[f"bert.{NAME}.blocks"].view(-1)[7] ^= 1
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"{NAME}: 'blocks' must"):
        AutoModelForMaskedLM.from_pretrained(
            directory, device_map={"": "disk"}, offload_folder=str(tmp_path / "o"), offload_buffers=True
        )
    del weights[f"bert.{NAME}.basis"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"must hold bert.{NAME}.basis, which it lacks"):
        AutoModelForMaskedLM.from_pretrained(directory, device_map={"": "disk"}, offload_folder=str(tmp_path / "o"))


def test_both_sets_of_names_are_accepted(saved, monkeypatch, compressed):
    def renamed(model, state):
        return {key.replace("classifier", "head"): tensor for key, tensor in state.items()}

    model = compressed()
    monkeypatch.setattr("transformers.core_model_loading.revert_weight_conversion", renamed)
    settings = model.config.quantization_config
    table = digests.Table.from_text(digests.metadata(model, model.state_dict(), settings.layers)[KEY], "")
    assert len(table.tensors) == 2
    assert table.nearest({"head.bias": 0}).keys() - table.nearest({"classifier.bias": 0}).keys() == {
        "head.bias",
        "head.weight",
    }


def test_parts_of_tensors_get_no_digests(compressed):
    class Part(torch.nn.Parameter):
        def full_tensor(self):
            raise NotImplementedError

    model = compressed()
    assert digests.metadata(model, {"weight": Part(torch.ones(2))}, {}) == {}


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool, torch.complex64],
)
def test_a_digest_depends_on_bytes_dtype_and_shape(dtype):
    ones = torch.ones(3, 4).to(dtype)
    assert of_tensor(ones) == of_tensor(ones.T.contiguous().T) == of_tensor(torch.ones(6, 4).to(dtype)[::2])
    others = [ones[:2], ones.T, ones.flatten(), torch.zeros(3, 4).to(dtype), torch.ones(3, 4, dtype=torch.int16)]
    others += [torch.ones(()).to(dtype), torch.ones(0).to(dtype)]
    assert len({of_tensor(tensor) for tensor in [ones, *others]}) == len(others) + 1


def test_laying_a_file_out_sorts_its_metadata_and_changes_nothing_else(tmp_path):
    tensors = {"é": torch.arange(6.0), "b": torch.ones(2, dtype=torch.int8)}
    metadata = {str(i): f'"\\ü{i}' for i in range(5)} | {"format": "pt"}
    contents = set()
    for number in range(4):
        file = tmp_path / f"{number}.safetensors"
        save_file(tensors, file, metadata)
        lay_out(file)
        contents.add(file.read_bytes())
        with safe_open(file, "pt") as content:
            assert content.metadata() == metadata
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in load_file(file).items())
    assert len(contents) == 1


def test_the_threads_end(saved):
    directory = saved()
    for _ in range(3):
        load(directory)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lpcompress")]
