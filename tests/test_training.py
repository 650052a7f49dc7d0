"""What surrounds the Trainer."""

import random

import numpy as np
import torch

from lpcompress.training import kept_random_state, last_state


def test_an_unfinished_state_is_not_resumed(tmp_path):
    assert last_state(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}/trainer_state.json").touch()
    assert last_state(tmp_path) == str(tmp_path / "checkpoint-10")


def test_global_generators_are_left_alone():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with kept_random_state():
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1] and torch.equal(torch.get_rng_state(), before[2])
