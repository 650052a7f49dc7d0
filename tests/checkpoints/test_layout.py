"""The order of weight files."""

import os
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lpcompress.checkpoints.layout import lay_out
from lpcompress.checkpoints.loading import load
from lpcompress.checkpoints.saving import save
from lpcompress.compression.whole_model import compress

TENSORS = {
    "a.levels": torch.arange(3.0),
    "a.stream": torch.arange(7, dtype=torch.uint8),
    "b.weight": torch.randn(4, 16),
    "c.weight": torch.randn(8, 8).half(),
    "d": torch.tensor(2.0, dtype=torch.float64),
    "e": torch.empty(0, 5),
    "f": torch.randn(3, 3).bfloat16(),
}


def test_whole_lines_come_first_and_nothing_else_changes(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(TENSORS, file, {"format": "pt"})
    os.chmod(file, 0o640)
    lay_out(file)
    found = load_file(file)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        assert found[name].data_ptr() % tensor.element_size() == 0
    assert {found[name].data_ptr() % 64 for name in ("b.weight", "c.weight")} == {0}
    with safe_open(file, "pt") as content:
        assert content.metadata() == {"format": "pt"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640 and os.listdir(tmp_path) == ["model.safetensors"]
    once = file.read_bytes()
    lay_out(file)
    assert file.read_bytes() == once


@pytest.mark.parametrize("shards", [None, 6000])
def test_weights_of_other_layers_begin_at_a_line_in_a_compressed_checkpoint(tiny_model, tmp_path, shards):
    model = tiny_model()
    compress(model, method="coded", ratio=0.5)
    save(model, None, tmp_path / "small", max_shard_size=shards)
    assert len(list(tmp_path.glob("small/*.safetensors"))) > (shards is not None)
    loaded = load(str(tmp_path / "small"))[0]
    weights = [layer.weight for layer in loaded.modules() if isinstance(layer, torch.nn.Linear)]
    assert weights and {weight.data_ptr() % 64 for weight in weights if weight.nbytes % 64 == 0} == {0}
