"""What a model computes for small inputs, and whether two models compute the same."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Dtype of a model -> how far outputs may differ, as a share of the largest one, where sums have another order."""


@torch.no_grad()
def outputs_of(model: Any, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the floating-point outputs of a model in evaluation mode, on the CPU in float32; draws are seeded."""
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outputs = model(**{key: tensor.to(device_of(model)) for key, tensor in inputs.items()})
    finally:
        model.train(training)
    return [tensor.detach().float().cpu() for tensor in tensors_in(outputs) if tensor.is_floating_point()]


def same_outputs(expected: Sequence[Tensor], found: Sequence[Tensor], tolerance: float) -> bool:
    """Return whether outputs differ by at most `tolerance` times the largest finite one of each tensor.

    Examples
    --------
    >>> logits = torch.tensor([1.0, -torch.inf])  # as for tokens that are masked
    >>> same_outputs([logits], [logits + 1e-5], 1e-4), same_outputs([logits], [logits + 1e-3], 1e-4)
    (True, False)
    """
    if [each.shape for each in expected] != [each.shape for each in found]:
        return False
    for ours, theirs in zip(expected, found, strict=True):
        largest = float(ours.nan_to_num(0, 0, 0).abs().max()) if ours.numel() else 0.0
        if not torch.allclose(ours, theirs, rtol=0, atol=tolerance * max(1e-6, largest), equal_nan=True):
            return False
    return True


def device_of(model: Any) -> torch.device:
    """Return the device on which a model computes; the CPU if its tensors are kept on disk."""
    return torch.device("cpu") if model.device.type == "meta" else model.device


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested outputs."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)
