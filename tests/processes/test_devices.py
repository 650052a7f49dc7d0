"""Device names."""

import pytest
import torch

from lpcompress.errors import PlanError
from lpcompress.processes import checked_device


def test_the_cpu_is_always_available():
    assert checked_device("cpu") == checked_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("wish", ["gpu", "meta", "", "cuda:99", "cpu:x", 99, 1.5, None, ["cpu"]])
def test_unavailable_devices_are_refused(wish):
    with pytest.raises(PlanError, match=r"^device must be one of this machine's, such as cpu, .* Got "):
        checked_device(wish)
