"""Finding layers in a model, swapping them, and keeping language-model heads tied to their embedding."""

import difflib
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import CompressedEmbedding, SketchedLayer, TiedHead, is_compressed_module


def input_embedding(model: Any) -> list[str]:
    """Return the name of what `model.get_input_embeddings()` returns."""
    embedding = model.get_input_embeddings()
    return [name for name, module in model.named_modules() if module is embedding]


WORDS: dict[str, Callable[[nn.Module], list[str]]] = {"embedding": input_embedding}
RESERVED_WORDS = ("linear", "attention", "ffn", "conv", "all")  # of the contract, not built yet


def find_layers(model: nn.Module, patterns: Iterable[str]) -> dict[str, nn.Embedding]:
    """Return the layers that `patterns` ask for, by name, in the order of the model.

    Parameters
    ----------
    model : PreTrainedModel
    patterns : iterable of str
        Words (`embedding`: the word embedding) or shell wildcards over module names.
    """
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "weight")}
    chosen: set[str] = set()
    for pattern in patterns:
        chosen.update(matches(model, pattern, list(layers)))
    for name in chosen:
        refuse_unsupported(name, layers[name])
    return {name: cast(nn.Embedding, module) for name, module in layers.items() if name in chosen}


def matches(model: nn.Module, pattern: str, names: list[str]) -> list[str]:
    """Return those of `names` that one pattern asks for; at least one, or raise."""
    if pattern in RESERVED_WORDS:
        raise LpCompressError(
            f"layers {pattern!r}: not supported yet by this version. Supported: {', '.join(WORDS)}, and names or"
            " wildcards of embeddings."
        )
    found = WORDS[pattern](model) if pattern in WORDS else [n for n in names if fnmatchcase(n, pattern)]
    if not found:
        near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3)
        raise LpCompressError(
            f"layers {pattern!r} matched no layer of this {type(model).__name__}."
            + (f" Nearest: {', '.join(map(repr, near))}." if near else "")
        )
    return found


def refuse_unsupported(name: str, module: nn.Module) -> None:
    """Raise unless `module` is a plain embedding."""
    if is_compressed_module(module):
        raise LpCompressError(f"{name} is compressed already ({type(module).__name__}); start from the dense model.")
    try:
        CompressedEmbedding.refuse(module)
    except LpCompressError as error:
        raise LpCompressError(f"{name}: {error}") from None


def swap(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the layer called `name`."""
    model.set_submodule(name, module)


def relative_name(model: nn.Module, name: str) -> str:
    """Return `name` as it is called inside the base model, so that every head finds it."""
    return name.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")


def locate(model: nn.Module, name: str) -> str | None:
    """Return what a layer stored under its relative name is called in `model`; None if it has none."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    names = dict(model.named_modules())
    return next((c for c in (name, prefix + name, name.removeprefix(prefix)) if c in names), None)


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
                heads[target] = TiedHead(embedding, head.bias).train(head.training)
        for target, head in heads.items():
            swap(part, target.removesuffix(".weight"), head)
        if heads:
            part._tied_weights_keys = {key: source for key, source in tied.items() if key not in heads}
            refresh_tied_keys(part)
    refresh_tied_keys(model)


def densify(model: Any) -> None:
    """Multiply every compressed layer out and tie plain heads again, in place: the inverse of `retie` and `swap`."""
    for name, module in list(model.named_modules()):
        if isinstance(module, CompressedEmbedding):
            swap(model, name, plain_embedding(module))
        elif isinstance(module, TiedHead | SketchedLayer):
            swap(model, name, module.plain())
    for part in model.modules():
        if vars(part).pop("_tied_weights_keys", None) is not None:
            refresh_tied_keys(part)
    refresh_tied_keys(model)
    model.tie_weights()


def plain_embedding(module: CompressedEmbedding) -> nn.Embedding:
    """Return the `nn.Embedding` that `module` stands for."""
    plain = nn.Embedding(
        module.num_embeddings,
        module.embedding_dim,
        padding_idx=module.padding_idx,
        _weight=module.dense().detach(),
    )
    return plain.requires_grad_(module.weight.requires_grad).train(module.training)


def refresh_tied_keys(model: Any) -> None:
    """Let transformers work its table of tied weights out again."""
    if hasattr(model, "get_expanded_tied_weights_keys"):
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
