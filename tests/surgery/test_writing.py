"""Layers whose weight is changed by the model's own code."""

import pytest
import torch
import transformers

from lpcompress.checkpoints import loading, saving
from lpcompress.checkpoints.verification import Probe
from lpcompress.compression.whole_model import compress
from lpcompress.errors import LpCompressError
from lpcompress.surgery.finding import choose_layers
from lpcompress.surgery.writing import is_written_to

SIZES = {"vocab_size": 60, "hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 2, "rescale_every": 1}
WRITTEN = {"blocks.0.attention.output", "blocks.0.feed_forward.value"}
WRITTEN |= {name.replace("0", "1") for name in WRITTEN}


@pytest.fixture
def rwkv(tmp_path):
    torch.manual_seed(0)
    transformers.RwkvModel(transformers.RwkvConfig(**SIZES)).save_pretrained(tmp_path / "dense")
    return loading.load(str(tmp_path / "dense"), on_disk=True)[0]


def test_layers_that_the_model_changes_are_skipped_before_the_work(rwkv, tmp_path):
    probe = Probe.of(rwkv)
    chosen = choose_layers(rwkv, ["all"])
    assert chosen.skipped.keys() == WRITTEN
    assert "changes its weight whenever it runs" in chosen.skipped["blocks.0.attention.output"]
    with pytest.raises(LpCompressError, match="changes its weight whenever it runs"):
        choose_layers(rwkv, ["blocks.0.attention.output"])
    compress(rwkv, layers=["all"], method="svd", ratio=0.3)
    saving.save(rwkv, None, tmp_path / "small", source=str(tmp_path / "dense"), probe=probe)
    loaded = transformers.RwkvModel.from_pretrained(tmp_path / "small").eval()
    with torch.no_grad():
        assert loaded(torch.tensor([[5, 6, 7]])).last_hidden_state.isfinite().all()


def test_other_models_change_nothing(tiny_classifier):
    model = loading.load(str(tiny_classifier("mrpc")))[0]
    Probe.of(model)
    assert not any(map(is_written_to, model.modules()))
