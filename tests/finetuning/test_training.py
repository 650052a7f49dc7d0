"""Freezing, resuming and random state around the Trainer."""

import random

import numpy as np
import pytest
import torch

from lpcompress.finetuning.training import frozen, kept_random_state, last_state
from lpcompress.surgery import finding


def test_an_unfinished_state_is_not_resumed(tmp_path):
    assert last_state(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}/trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-11/trainer_state.json").write_text('{"epoch')  # killed while writing
    assert last_state(tmp_path) == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "xlnet"])
@pytest.mark.parametrize(("word", "part"), [("attention", "att"), ("linear", ""), ("all", "")])
def test_words_freeze_the_layers_that_they_compress(tiny_model, architecture, word, part):
    model = tiny_model(architecture)
    found = finding.find_layers(model, [word])
    assert any(part in name for name in found)
    with frozen(model, [word]):
        assert not any(layer.module.weight.requires_grad for layer in found.values())
        assert any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_global_generators_are_left_alone():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with kept_random_state():
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1] and torch.equal(torch.get_rng_state(), before[2])
