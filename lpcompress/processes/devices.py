"""Devices as users name them."""

from typing import Any

import torch

from lpcompress.errors import PlanError


def checked_device(wish: Any) -> torch.device:
    """Return the device that a user named.

    Parameters
    ----------
    wish : str, int or torch.device
        As torch takes it: cpu, cuda, cuda:1.

    Raises
    ------
    PlanError
        If there is no such device here, or it holds no numbers.
    """
    try:
        device = torch.device(wish)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError):  # what torch raises for names, for absent drivers, for nonsense
        raise PlanError(f"device must be one of this machine's, such as cpu, cuda or cuda:1. Got {wish!r}.") from None
    return device
