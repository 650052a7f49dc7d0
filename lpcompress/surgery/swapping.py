"""What a model needs around a swap of layers: their names in checkpoints, tied heads, and the way back."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lpcompress.nn import CompressedBareWeight, CompressedEmbedding, FactoredMatrix, TiedHead
from lpcompress.surgery.layer import Layer, layers_of
from lpcompress.surgery.offloading import in_memory


def bare_names(model: nn.Module) -> list[str]:
    """Return the names of the bare weights that are compressed."""
    return [name for name, module in model.named_modules() if isinstance(module, CompressedBareWeight)]


def relative_name(model: nn.Module, name: str) -> str:
    """Return `name` as it is called inside the base model, so that a model with any head finds it."""
    return name.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")


def locate(model: nn.Module, names: Iterable[str]) -> dict[str, Layer | None]:
    """Return the layers that are stored under relative names; None for those that `model` does not have."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    layers = layers_of(model)
    return {
        name: layers.get(name) or layers.get(prefix + name) or layers.get(name.removeprefix(prefix)) for name in names
    }


def retie(model: Any) -> None:
    """Replace every head that is tied to a compressed embedding by one that shares its factors.

    The head's weight is taken out of the tables of tied weights, for there is none any more: the head refers to
    the embedding itself (see `TiedHead`).
    """
    for part in model.modules():
        tied = getattr(part, "_tied_weights_keys", None)  # of a PreTrainedModel only
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
    """Give every parameter its `requires_grad` back when the block ends."""
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        yield
    finally:
        for parameter, trained in wanted.items():
            parameter.requires_grad_(trained)


def densify(model: Any) -> None:
    """Multiply every compressed layer out and tie plain heads again, in place: the inverse of compressing."""
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
    """Have transformers work out its table of tied weights again."""
    if hasattr(model, "get_expanded_tied_weights_keys"):
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
