"""Inputs with which models of all kinds run."""

import pytest
import torch
import transformers

from lpcompress.checkpoints.inputs import candidates
from lpcompress.checkpoints.verification import Probe

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
WIDER = SIZES | {"hidden_size": 64}
KINDS = {
    "sound as a spectrogram": ("ASTModel", "ASTConfig", SIZES, {"input_values"}),
    "video": ("VideoMAEModel", "VideoMAEConfig", SIZES | {"image_size": 32, "num_frames": 4}, {"pixel_values"}),
    "boxes around words": ("BrosModel", "BrosConfig", WIDER | {"vocab_size": 50}, {"input_ids", "bbox"}),
    "a series": ("PatchTSTModel", "PatchTSTConfig", {"d_model": 16, "ffn_dim": 16}, {"past_values"}),
    "text and pixels": (
        "CLIPModel",
        "CLIPConfig",
        {"text_config": SIZES | {"vocab_size": 50}, "vision_config": SIZES | {"image_size": 32}},
        {"input_ids", "pixel_values"},
    ),
}


@pytest.fixture
def model_of():
    def make(cls, config, sizes):
        torch.manual_seed(0)
        return getattr(transformers, cls)(getattr(transformers, config)(**sizes)).eval()

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_runs_with_what_its_config_describes(model_of, kind):
    cls, config, sizes, names = KINDS[kind]
    assert set(Probe.of(model_of(cls, config, sizes)).inputs) == names


def test_the_same_inputs_every_time(model_of):
    model = model_of(*KINDS["text and pixels"][:3])
    first, second = list(candidates(model)), list(candidates(model))
    assert [each.keys() for each in first] == [each.keys() for each in second]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)
