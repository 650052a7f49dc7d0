"""Copies of a model that share its tensors."""

import copy
import itertools
from typing import Any


def twin_of(model: Any) -> Any:
    """Return a copy of a model that shares its tensors.

    Modules of the copy can be replaced. Its tensors must not be written to.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 3))
    >>> twin = twin_of(model)
    >>> twin[0].weight is model[0].weight
    True
    >>> twin[0] = nn.Identity()
    >>> model[0]
    Linear(in_features=2, out_features=3, bias=True)
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
