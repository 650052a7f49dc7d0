"""Tests that need an accelerator, such as an NVIDIA GPU; elsewhere they are skipped."""

import pytest
import torch


@pytest.fixture
def device():
    """Name of the accelerator of this machine."""
    if not torch.accelerator.is_available():
        pytest.skip("this machine has no accelerator")
    return torch.accelerator.current_accelerator().type
