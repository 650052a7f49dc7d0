"""Validate device names."""

from typing import Any

import torch

from lpcompress.errors import PlanError


def checked_device(wish: Any) -> torch.device:
    """Return the torch device that `wish` names, if it is available.

    Parameters
    ----------
    wish : str, int or torch.device
        A device as torch accepts it: cpu, cuda, cuda:1.

    Returns
    -------
    torch.device

    Raises
    ------
    PlanError
        If this machine has no such device, or it stores no values (meta).

    Examples
    --------
    >>> checked_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(wish)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError):  # torch raises these for bad names, types and drivers
        raise PlanError(f"device must be one of this machine's, such as cpu, cuda or cuda:1. Got {wish!r}.") from None
    return device
