"""Support for swapping layers: their names in checkpoints, tied heads, and converting a model back to dense layers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lpcompress.nn import CompressedBareWeight, CompressedEmbedding, FactoredMatrix, TiedHead
from lpcompress.surgery.layer import Layer, layers_of
from lpcompress.surgery.offloading import in_memory


def bare_names(model: nn.Module) -> list[str]:
    """Return the names of the compressed bare weights."""
    return [name for name, module in model.named_modules() if isinstance(module, CompressedBareWeight)]


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


def retie(model: Any) -> None:
    """Replace every head that is tied to a compressed embedding by one that shares its factors.

    The head's weight is removed from the tables of tied weights, because the new head has none: it refers to the
    embedding itself (see `TiedHead`).
    """
    for part in model.modules():
        tied = getattr(part, "_tied_weights_keys", None)  # only a PreTrainedModel has it
        if not tied or not getattr(part.config, "tie_word_embeddings", False):
            continue
        layers, shared = layers_of(part), set()
        for target, source in tied.items():
            head, embedding = (layers.get(key.removesuffix(".weight")) for key in (target, source))
            if head and embedding and _can_share(head.module, embedding.module):
                plain = head.module
                with in_memory(plain):
                    head.replace(TiedHead(embedding.module, plain.bias).train(plain.training))
                shared.add(target)
        if shared:
            part._tied_weights_keys = {key: source for key, source in tied.items() if key not in shared}
            refresh_tied_keys(part)
    refresh_tied_keys(model)


def _can_share(head: nn.Module, embedding: nn.Module) -> bool:
    return isinstance(head, nn.Linear) and isinstance(embedding, CompressedEmbedding)


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
    for layer in layers_of(model).values():
        module = layer.module
        if isinstance(module, FactoredMatrix):
            plain = module.plain().train(module.training)
            plain.weight.requires_grad_(module.weight.requires_grad)
            layer.replace(plain)
        elif isinstance(module, TiedHead):
            layer.replace(module.plain())
    for part in model.modules():
        if vars(part).pop("_tied_weights_keys", None) is not None:
            refresh_tied_keys(part)
    refresh_tied_keys(model)
    model.tie_weights()


def refresh_tied_keys(model: Any) -> None:
    """Make transformers recompute its table of tied weights."""
    if hasattr(model, "get_expanded_tied_weights_keys"):
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
