"""Swapping layers of a model, and keeping language-model heads tied to their embedding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lpcompress.nn import BareWeight, CompressedBareWeight, CompressedEmbedding, FactoredMatrix, TiedHead
from lpcompress.surgery.finding import all_layers
from lpcompress.surgery.offloading import in_memory


def bare_names(model: nn.Module) -> list[str]:
    """Return the names of the bare weights that are compressed."""
    return [name for name, module in model.named_modules() if isinstance(module, CompressedBareWeight)]


def swap(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the layer called `name`; a bare weight goes back bare."""
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    if isinstance(module, BareWeight | CompressedBareWeight):
        delattr(owner, leaf)
    setattr(owner, leaf, module.weight if isinstance(module, BareWeight) else module)


def relative_name(model: nn.Module, name: str) -> str:
    """Return `name` as it is called inside the base model, so that every head finds it."""
    return name.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")


def locate(model: nn.Module, name: str) -> tuple[str, nn.Module] | None:
    """Return what a layer stored under its relative name is called in `model`, and the layer; None if it has none."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    layers = all_layers(model)
    candidates = (name, prefix + name, name.removeprefix(prefix))
    return next(((each, layers[each]) for each in candidates if each in layers), None)


def retie(model: Any) -> None:
    """Give every head that is tied to a compressed embedding the form that shares its factors.

    The head's weight leaves the tables of tied weights, for there is none any more: the head refers to
    the embedding itself (see `TiedHead`).
    """
    for part in model.modules():
        tied = getattr(part, "_tied_weights_keys", None)  # of a PreTrainedModel only
        if not tied or not getattr(part.config, "tie_word_embeddings", False):
            continue
        names = dict(part.named_modules())
        heads = {}
        for target, source in tied.items():
            head, embedding = (names.get(key.removesuffix(".weight")) for key in (target, source))
            if isinstance(head, nn.Linear) and isinstance(embedding, CompressedEmbedding):
                with in_memory(head):
                    heads[target] = TiedHead(embedding, head.bias).train(head.training)
        for target, head in heads.items():
            swap(part, target.removesuffix(".weight"), head)
        if heads:
            part._tied_weights_keys = {key: source for key, source in tied.items() if key not in heads}
            refresh_tied_keys(part)
    refresh_tied_keys(model)


@contextmanager
def trained_as_before(model: nn.Module) -> Iterator[None]:
    """Give parameters back as they were, to be trained or not, whatever is asked of them meanwhile."""
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        yield
    finally:
        for parameter, trained in wanted.items():
            parameter.requires_grad_(trained)


def densify(model: Any) -> None:
    """Multiply every compressed layer out and tie plain heads again, in place: the inverse of `retie` and `swap`."""
    for name, module in list(model.named_modules()):
        if isinstance(module, FactoredMatrix):
            plain = module.plain().train(module.training)
            plain.weight.requires_grad_(module.weight.requires_grad)
            swap(model, name, plain)
        elif isinstance(module, TiedHead):
            swap(model, name, module.plain())
    for part in model.modules():
        if vars(part).pop("_tied_weights_keys", None) is not None:
            refresh_tied_keys(part)
    refresh_tied_keys(model)
    model.tie_weights()


def refresh_tied_keys(model: Any) -> None:
    """Let transformers work its table of tied weights out again."""
    if hasattr(model, "get_expanded_tied_weights_keys"):
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
