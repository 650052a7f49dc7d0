"""Support for swapping layers: their names in checkpoints, and converting a model back to dense layers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lpcompress.nn import FactoredMatrix, Tied
from lpcompress.surgery.layer import Layer, layers_of
from lpcompress.surgery.tying import untie


def relative_name(model: nn.Module, name: str) -> str:
    """Return `name` relative to the base model, so that it is valid whatever the head."""
    return name.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")


def locate(model: nn.Module, names: Iterable[str]) -> dict[str, Layer | None]:
    """Return the layers of `model` by the relative names under which they are stored; None for missing ones."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    layers = layers_of(model)
    return {
        name: layers.get(name) or layers.get(prefix + name) or layers.get(name.removeprefix(prefix)) for name in names
    }


@contextmanager
def trained_as_before(model: nn.Module) -> Iterator[None]:
    """Restore the `requires_grad` of every parameter when the block ends."""
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        yield
    finally:
        for parameter, trained in wanted.items():
            parameter.requires_grad_(trained)


def densify(model: Any) -> None:
    """Multiply out every compressed layer and tie plain heads again, in place: the inverse of compressing."""
    layers, weights = layers_of(model).values(), {}
    for layer in layers:
        module = layer.module
        if isinstance(module, FactoredMatrix):
            plain = module.plain().train(module.training)
            plain.weight.requires_grad_(next(module.parameters()).requires_grad)
            weights[module] = plain.weight
            layer.replace(plain)
    for layer in layers:
        module = layer.module
        if isinstance(module, Tied):
            layer.replace(module.plain(weights[module.embedding]).train(module.training))
    untie(model)
