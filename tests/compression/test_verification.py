"""`verify` names whatever differs from what was written."""

import json
import shutil
from dataclasses import replace

import pytest

from lpcompress.checkpoints import saving
from lpcompress.compression.report import CheckpointReport
from lpcompress.compression.verification import verify
from lpcompress.errors import CheckpointError


@pytest.fixture
def checkpoint(compressed, word_tokenizer, tmp_path):
    """The directory of a compressed checkpoint of several weight files, with a tokenizer, a card and a report."""
    with saving.new_checkpoint(tmp_path / "model") as directory:
        saving.write(directory, compressed(), word_tokenizer, max_shard_size="10KB")
        (directory / "README.md").write_text("# A model\n")
        (directory / "1_Pooling").mkdir()
        (directory / "1_Pooling" / "config.json").write_text("{}\n")
        CheckpointReport(model="x").write(directory)
    return tmp_path / "model"


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def found(directory):
    return [str(damage) for damage in verify(directory).damaged]


def test_a_sound_checkpoint(checkpoint):
    result = verify(checkpoint)
    assert result.sound and not result.damaged and not result.extra
    assert result.files == len([path for path in checkpoint.rglob("*") if path.is_file()])
    assert result.tensors == len(json.loads((checkpoint / "model.safetensors.index.json").read_text())["weight_map"])
    assert result.document()["sound"] is True


@pytest.mark.parametrize("place", [0, 0.3, 0.6, -1])
def test_any_flipped_bit_of_any_file_is_found(checkpoint, place):
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        content = file.read_bytes()
        flip(file, int(place * len(content)) if place > 0 else place)
        damaged = verify(checkpoint).damaged
        assert file.relative_to(checkpoint).as_posix() in [damage.file for damage in damaged], file
        file.write_bytes(content)
    assert verify(checkpoint).sound


def test_a_damaged_tensor_is_named(checkpoint):
    file = sorted(checkpoint.glob("model-*.safetensors"))[1]
    flip(file, -1)
    [damage] = verify(checkpoint).damaged
    assert damage.file == file.name and damage.tensor and damage.problem == "is damaged or was changed"


def test_missing_and_added_files(checkpoint):
    (checkpoint / "README.md").unlink()
    (checkpoint / "notes.txt").touch()
    (checkpoint / ".cache").mkdir()
    (checkpoint / ".cache" / "lock").touch()
    result = verify(checkpoint)
    assert [str(damage) for damage in result.damaged] == ["README.md: is missing"] and result.extra == ["notes.txt"]
    shard = sorted(checkpoint.glob("model-*.safetensors"))[0]
    shard.unlink()
    assert f"{shard.name}: is missing" in found(checkpoint)
    (checkpoint / "lpcompress.json").unlink()
    assert found(checkpoint) == [f"{shard.name}: is missing"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": ["b"]}}'])
def test_a_damaged_index_is_named_without_a_report(checkpoint, text):
    (checkpoint / "lpcompress.json").unlink()
    (checkpoint / "model.safetensors.index.json").write_text(text)
    assert found(checkpoint) == ["model.safetensors.index.json: is damaged"]


def test_a_damaged_tensor_is_named_beside_a_missing_file(checkpoint):
    first, second, *_ = sorted(checkpoint.glob("model-*.safetensors"))
    first.unlink()
    flip(second, -1)
    missing, damaged = verify(checkpoint).damaged
    assert str(missing) == f"{first.name}: is missing"
    assert damaged.file == second.name and damaged.tensor


def test_an_edited_layer_map_is_found_without_a_report(checkpoint):
    (checkpoint / "lpcompress.json").unlink()
    assert verify(checkpoint).sound
    config = json.loads((checkpoint / "config.json").read_text())
    config["quantization_config"]["layers"]["embeddings.word_embeddings"]["p"] = 1.5
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert found(checkpoint) == ["config.json: has other layers in its quantization_config than the weights"]
    (checkpoint / "config.json").unlink()
    assert not verify(checkpoint).sound


def test_an_edit_of_the_report_is_found(checkpoint):
    file = checkpoint / "lpcompress.json"
    text = file.read_text()
    file.write_text(text.replace('"model": "x"', '"model": "y"'))
    assert found(checkpoint) == ["lpcompress.json: is damaged or was changed"]
    for broken in ("", "{", "[]", text[:-9], text.replace('"files": {', '"files": [{')):
        file.write_text(broken)
        assert "lpcompress.json: is damaged" in found(checkpoint)
    document = json.loads(text)
    del document["digests"]
    file.write_text(json.dumps(document))
    assert verify(checkpoint).sound  # of an earlier version: the weights have digests of their own


def test_what_has_no_digests_is_refused(tiny_model, tmp_path):
    with pytest.raises(CheckpointError, match="must be a directory with a compressed checkpoint"):
        verify(tmp_path / "nowhere")
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="must hold digests"):
        verify(tmp_path)


def test_a_copy_is_sound_and_a_rewritten_report_has_new_digests(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "copy")
    assert verify(tmp_path / "copy").sound
    report = CheckpointReport.read(tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("# Another\n")
    assert not verify(tmp_path / "copy").sound
    written = replace(report, seed=7).write(tmp_path / "copy")
    assert verify(tmp_path / "copy").sound and CheckpointReport.read(tmp_path / "copy") == written


@pytest.mark.parametrize("shards", ["10KB", None])
def test_stripped_metadata_is_found_and_tensors_are_still_named(compressed, tmp_path, shards):
    from safetensors.torch import load_file, save_file

    with saving.new_checkpoint(tmp_path / "model") as directory:
        saving.write(directory, compressed(), None, max_shard_size=shards)
        CheckpointReport().write(directory)
    for file in (tmp_path / "model").glob("*.safetensors"):
        weights = load_file(file)
        name = sorted(weights)[0]
        weights[name].view(-1)[0] += 1
        save_file(weights, file, {"format": "pt"})
        assert f"{file.name}: tensor {name} is damaged or was changed" in found(tmp_path / "model")
