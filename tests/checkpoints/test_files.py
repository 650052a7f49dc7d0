"""The files that a checkpoint must have."""

import pytest
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
