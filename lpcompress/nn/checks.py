"""What every compressed module's loaded tensors must fulfil."""

import torch
from torch import nn

from lpcompress.errors import CheckpointError


def require_finite(name: str, module: nn.Module) -> None:
    """Raise CheckpointError if a number of the module called `name` is not finite."""
    for leaf, tensor in module.state_dict(keep_vars=True).items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{name}.{leaf} holds values that are not finite: the checkpoint is damaged. Compress the model again."
            )
