"""Fold the output permutation of a clustered layer into the next layer.

A clustered layer computes its outputs cluster by cluster and must then restore their order. Between the two layers of a
feed-forward block there is only an entrywise function, so the input columns of the second can be permuted once instead.
"""

import torch
from torch import nn

from lpcompress.nn import ClusteredLinear, FactoredMatrix, role_of
from lpcompress.surgery.architectures import feed_forward_pair
from lpcompress.surgery.offloading import editable


def fold_permutations(model: nn.Module) -> None:
    """Fold the output permutations of clustered layers into the layers that follow them, where possible, in place."""
    for block in model.modules():
        if pair := feed_forward_pair(block):
            first, second = map(block.get_submodule, pair)
            if isinstance(first, ClusteredLinear) and not first.ordered:
                with editable(first), editable(second):
                    fold(first, second)


def fold(first: ClusteredLinear, second: nn.Module) -> None:
    """Permute the input columns of `second` to the cluster order of `first`, if they can be permuted."""
    inputs = inputs_of(second)
    if inputs is not None:
        inputs.copy_(inputs[:, first.sort_outputs()])
        for layer in (first, second):
            if isinstance(layer, FactoredMatrix):
                layer.forget()  # what it computed from its tensors before


@torch.no_grad()
def inputs_of(layer: nn.Module) -> torch.Tensor | None:
    """Return the matrix (any, inputs) whose columns are the inputs of `layer`; None if they cannot be permuted.

    They cannot for sparse codes without a basis, whose masks refer to the columns.
    """
    if isinstance(layer, FactoredMatrix):
        return None if layer.right is None else layer.right.data
    role = role_of(layer)
    return role.matrix_of(layer).data if role else None
