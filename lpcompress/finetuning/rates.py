"""Learning rates for numbers whose typical size is far from that of weights."""

from typing import Any

import torch
from torch import nn
from transformers import Trainer

from lpcompress.formats.module import FactoredMatrix


class RelativeTrainer(Trainer):
    """Trainer whose learning rate is relative for the parameters that a compressed layer has `units` for.

    Adam moves every number by about the learning rate, however small the number is. A step of codes is .005 as a rule,
    so that at a rate for weights some of them would double within a hundred batches.
    """

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        """Create the optimizer; where a layer has a unit for a parameter, the rate is the usual one times that unit."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*arguments, **options)
        use_units(optimizer, self.model)
        return optimizer


def use_units(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Give every parameter that a layer of `model` has a unit for a group of its own, whose rate is in that unit.

    These numbers do not decay: they multiply others, as those of a normalisation do.

    Examples
    --------
    >>> from lpcompress import factorize
    >>> from lpcompress.nn import from_factorization
    >>> plain = nn.Embedding(64, 16)
    >>> layer = from_factorization(factorize(plain.weight.detach() / 100, "coded", ratio=0.7), plain)
    >>> optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    >>> use_units(optimizer, layer)
    >>> rates = [group["lr"] for group in optimizer.param_groups[1:]]
    >>> rates == [1e-3 * unit for unit in layer.units().values()]
    True
    """
    layers = [layer for layer in model.modules() if isinstance(layer, FactoredMatrix)]
    units = {layer.get_parameter(name): unit for layer in layers for name, unit in layer.units().items()}
    for group in [*optimizer.param_groups]:
        moved = [parameter for parameter in group["params"] if parameter in units]
        group["params"] = [parameter for parameter in group["params"] if parameter not in units]
        for parameter in moved:
            rate = group["lr"] * units[parameter]
            optimizer.add_param_group({**group, "params": [parameter], "lr": rate, "weight_decay": 0.0})
