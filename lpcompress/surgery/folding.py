"""Folding the permutation of a clustered layer's outputs into the next layer.

A clustered layer computes its outputs cluster by cluster and must put them back in order. Between the two layers of a
feed-forward block there is only an entrywise function, so the inputs of the second can be permuted instead, once.
"""

import torch
from torch import nn

from lpcompress.nn import ClusteredLinear, FactoredMatrix, role_of
from lpcompress.surgery.architectures import feed_forward_pair
from lpcompress.surgery.offloading import editable


def fold_permutations(model: nn.Module) -> None:
    """Fold the permutations of clustered layers into the layers that follow them, where that is possible, in place."""
    for block in model.modules():
        if pair := feed_forward_pair(block):
            first, second = map(block.get_submodule, pair)
            if isinstance(first, ClusteredLinear) and not first.ordered:
                with editable(first), editable(second):
                    fold(first, second)


def fold(first: ClusteredLinear, second: nn.Module) -> None:
    """Have `second` take the outputs of `first` in the order of the clusters, if it can."""
    inputs = inputs_of(second)
    if inputs is not None:
        inputs.copy_(inputs[:, first.sort_outputs()])


@torch.no_grad()
def inputs_of(layer: nn.Module) -> torch.Tensor | None:
    """Return the matrix (any, inputs) whose columns belong to the inputs of `layer`; None if they cannot be permuted.

    That is so for sparse codes without a basis: their masks are bound to the columns.
    """
    if isinstance(layer, FactoredMatrix):
        return None if layer.right is None else layer.right.data
    role = role_of(layer)
    return role.matrix_of(layer).data if role else None
