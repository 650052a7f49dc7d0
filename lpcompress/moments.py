"""Second moments of what the matrices of layers are multiplied by, taken while the model runs."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lpcompress.layers import inputs_of
from lpcompress.nn import BareWeight
from lpcompress.progress import Progress

See = Callable[[Tensor], None]
"""Takes what a layer is given, as its matrix is multiplied by it: (products, d)."""


def second_moments(
    model: Any, layers: Mapping[str, nn.Module], encoded: Sequence[Any], tell: Progress
) -> dict[str, Tensor]:
    """Return C = E[x x^T] over the inputs x of every linear layer, convolution and bare weight, in one pass.

    Parameters
    ----------
    model : PreTrainedModel
    layers : mapping of name to nn.Module
        Plain layers of the model. Those that do not run, and embeddings, whose rows are looked up, are left out.
    encoded : sequence of mapping
        What the model is given: one text at a time, so that none is padded.
    tell : callable (description, done, total)

    Returns
    -------
    dict of str to Tensor of shape (d, d)
        float64, in the order of the columns of a layer's matrix: E ||(W - W') x||^2 = tr((W - W') C (W - W')^T).
    """
    totals: dict[str, Tensor] = {}
    seen: Counter[str] = Counter()

    def add(name: str, rows: Tensor) -> None:
        rows = rows.detach().float()
        product = (rows.T @ rows).double()
        totals[name] = totals[name] + product if name in totals else product
        seen[name] += len(rows)

    with watched(layers, add):
        for done, text in enumerate(encoded):
            tell("calibrating", done, len(encoded))
            model(**text.to(model.device))
    return {name: total / seen[name] for name, total in totals.items()}


@contextmanager
def watched(layers: Mapping[str, nn.Module], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Tell of every product by the matrix of one of `layers`, for a while: its name and the inputs, (products, d)."""
    bare: dict[Tensor, tuple[BareWeight, See]] = {}  # by identity
    with ExitStack() as hooks:
        for name, layer in layers.items():
            if isinstance(layer, BareWeight):
                bare[layer.weight] = (layer, partial(see, name))
            elif not isinstance(layer, nn.Embedding):
                hooks.callback(layer.register_forward_pre_hook(partial(_tell_of_inputs, partial(see, name))).remove)
        with _BareProducts(bare):
            yield


def _tell_of_inputs(see: See, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    see(inputs_of(layer, inputs[0]))


class _BareProducts(TorchFunctionMode):
    """Tells of the products by bare weights, which no hook of a module sees."""

    def __init__(self, weights: Mapping[Tensor, tuple[BareWeight, See]]) -> None:
        super().__init__()
        self.weights = weights

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        match args:
            case (str(equation), Tensor() as hidden, nn.Parameter() as weight) if weight in self.weights:
                layer, see = self.weights[weight]
                if function is torch.einsum and equation == layer.equation:
                    see(inputs_of(layer, hidden))
        return function(*args, **(kwargs or {}))
