"""The files that a checkpoint must have."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from lpcompress.checkpoints import files, loading
from lpcompress.errors import CheckpointError


def test_is_compressed(compressed, tmp_path):
    model = compressed()
    assert files.is_compressed(model.config)
    model.save_pretrained(tmp_path)
    assert files.is_compressed(AutoConfig.from_pretrained(tmp_path))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "There is no such directory"),
        ("/nowhere/at/all", "There is no such directory"),
        ("a/b/c", "There is no such directory"),
        ("no spaces!", "must be a local directory or a Hub id such as"),
        ("no-such-user/no-such-model", "the Hub cannot be reached"),  # offline
        ("{tmp}/empty", "must hold config.json, which it lacks"),
        ("{tmp}/file", "It is a file"),
        ("{tmp}/no-weights", "must hold weights"),
        ("{tmp}/adapter", "PEFT adapter: merge it"),
    ],
)
def test_models_that_cannot_be_read(tiny_model, tmp_path, model, message):
    for name in ("empty", "adapter"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    tiny_model().config.save_pretrained(tmp_path / "no-weights")
    with pytest.raises(CheckpointError, match=message):
        loading.load(model.format(tmp=tmp_path))


def shard(model, directory):
    model.save_pretrained(directory, max_shard_size="8KB")
    return sorted(file.name for file in directory.glob("model-*.safetensors"))


def names_of(directory):
    return [file.name for file in files.weight_files(directory)]


def test_only_the_weights_that_are_loaded_are_counted(tiny_model, tmp_path):
    """Every name that `from_pretrained` looks for, in its order; what it reads is found out by damaging it."""
    model = tiny_model()
    shards = shard(model, tmp_path)
    save_file({"unused": torch.zeros(9)}, tmp_path / "model.fp16.safetensors")
    save_file({"unused": torch.zeros(9)}, tmp_path / shards[0].replace(".safetensors", ".fp16.safetensors"))
    (tmp_path / "model-00001-of-00009.safetensors").write_bytes(b"of an older save")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert names_of(tmp_path) == shards and len(shards) > 1
    assert files.file_bytes(tmp_path) == sum((tmp_path / name).stat().st_size for name in shards)
    loading.load(str(tmp_path))
    (tmp_path / shards[0]).rename(tmp_path / "other-name.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(shards[0], "other-name.safetensors"))
    assert names_of(tmp_path) == [*shards[1:], "other-name.safetensors"]
    loading.load(str(tmp_path))
    save_file(model.state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    index.write_text("damaged, but not read")
    assert names_of(tmp_path) == ["model.safetensors"]
    loading.load(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "model.safetensors").rename(tmp_path / "mine.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config | {"transformers_weights": "mine.safetensors"}))
    assert names_of(tmp_path) == ["mine.safetensors"]
    loading.load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda index, shards: (index.parent / shards[1]).unlink(),
            r"every weight file that its index names\. It lacks",
        ),
        (lambda index, _: index.write_text("{"), r"index\.json must say which file holds which tensor"),
        (lambda index, _: index.write_text('{"weight_map": {"a": 3}}'), "must say which file holds which tensor"),
        (lambda index, _: index.write_text('{"weight_map": []}'), "must say which file holds which tensor"),
    ],
)
def test_a_damaged_index(tiny_model, tmp_path, change, message):
    shards = shard(tiny_model(), tmp_path)
    change(tmp_path / "model.safetensors.index.json", shards)
    with pytest.raises(CheckpointError, match=message):
        loading.load(str(tmp_path))
