"""Clustered outputs that need not be put back in order, because the next layer can take them as they come.

Between the two layers of a feed-forward block stands nothing but a function of each entry: permuting the outputs of
the first and the inputs of the second alike leaves the block what it was.
"""

import torch
from torch import nn

from lpcompress.nn import ClusteredLinear, FactoredMatrix, role_of
from lpcompress.surgery.architectures import feed_forward_pair
from lpcompress.surgery.offloading import editable


def fold_permutations(model: nn.Module) -> None:
    """Spare clustered layers the permutation of their outputs where the next layer can take it over, in place."""
    for block in model.modules():
        if pair := feed_forward_pair(block):
            first, second = map(block.get_submodule, pair)
            if isinstance(first, ClusteredLinear) and not first.ordered:
                with editable(first), editable(second):
                    fold(first, second)


def fold(first: ClusteredLinear, second: nn.Module) -> None:
    """Let `second` take the outputs of `first` in the order of its clusters, if it can."""
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
