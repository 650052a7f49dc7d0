"""Layers that share one weight: find them, and tie them to a compressed embedding."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import CompressedEmbedding, Tied, can_be_tied, scale_of, tied_to
from lpcompress.surgery.layer import Layer, layers_of
from lpcompress.surgery.offloading import in_memory, is_offloaded, offload

WEIGHT = ".weight"
PLAIN_KEYS = "_tied_weights_keys_of_plain_layers"  # attribute of a model that keeps its table while layers are tied


def sharing(model: nn.Module) -> dict[str, frozenset[str]]:
    """Return for every layer that shares its weight the names of all layers that have it, its own among them.

    A weight is shared if transformers' table says so, or if several layers hold the same parameter. The table is needed
    because tensors that are kept on disk are different objects.
    """
    pairs: list[tuple[str, str]] = list(getattr(model, "all_tied_weights_keys", {}).items())
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        pairs.append((name, first.setdefault(id(parameter), name)))
    groups: dict[str, set[str]] = {}
    for one, other in pairs:
        if one != other and one.endswith(WEIGHT) and other.endswith(WEIGHT):
            names = {one.removesuffix(WEIGHT), other.removesuffix(WEIGHT)}
            union = names.union(*(groups.get(name, ()) for name in names))
            groups |= dict.fromkeys(union, union)
    return {name: frozenset(group) for name, group in groups.items()}


def refuse_shared(layer: Layer, sharers: Iterable[str], layers: Mapping[str, Layer]) -> None:
    """Raise LpCompressError unless the layers that share the weight of `layer` can be tied to its replacement.

    Parameters
    ----------
    layer : Layer
    sharers : iterable of str
        Names of the layers that have its weight, as from `sharing`.
    layers : mapping of str to Layer
        All layers of the model, as from `layers_of`.
    """
    others = sorted(set(sharers) - {layer.name})
    words = next((name for name in others if name in layers and layers[name].is_word_embedding), None)
    if words:
        raise LpCompressError(
            "it shares its weight with the word embedding and is compressed together with it. Select 'embedding'"
            " instead."
        )
    scale = scale_of(layer.module) if layer.is_word_embedding else None
    for name in others:
        if not layer.is_word_embedding or name not in layers or not can_be_tied(layers[name].module, scale):
            raise LpCompressError(
                f"it shares its weight with {name}, which cannot be tied to a compressed layer. Leave the layer out."
            )


def retie(model: Any) -> None:
    """Replace every layer that is tied to a compressed embedding by one that refers to the embedding.

    Their weights are removed from the tables of tied weights, because the new layers have none (see `nn.Tied`).
    """
    changed = [model]
    for part in model.modules():
        keys = getattr(part, "_tied_weights_keys", None)  # only a PreTrainedModel has it
        if not keys or not getattr(part.config, "tie_word_embeddings", False):
            continue
        left = _tie(layers_of(part), dict(keys))
        if left != keys:
            vars(part).setdefault(PLAIN_KEYS, keys)
            part._tied_weights_keys = left
            changed.append(part)
    for part in changed:  # only now, because the table of a model is made from those of its parts
        refresh_tied_keys(part)


def untie(model: Any) -> None:
    """Undo `retie` in the tables of tied weights, once all layers are plain again."""
    for part in model.modules():
        keys = vars(part).pop(PLAIN_KEYS, None)
        if keys is not None:
            part._tied_weights_keys = keys
            refresh_tied_keys(part)
    refresh_tied_keys(model)
    model.tie_weights()


def _tie(layers: Mapping[str, Layer], keys: dict[str, str]) -> dict[str, str]:
    """Tie the layers that `keys` pair with a compressed embedding; return the keys of all other pairs."""
    pairs: dict[str, list[Layer]] = {
        target: [layers[name] for key in (target, source) if (name := key.removesuffix(WEIGHT)) in layers]
        for target, source in keys.items()
    }
    found = True
    while found:  # a layer that is tied in one round may be the partner of another in the next
        found = False
        for pair in pairs.values():
            embedding = next((_embedding(layer.module) for layer in pair if _embedding(layer.module)), None)
            if embedding is None:
                continue
            for layer in pair:
                if not _embedding(layer.module) and can_be_tied(layer.module, embedding.scale):
                    _replace(layer, embedding)
                    found = True
    return {key: source for key, source in keys.items() if not any(_embedding(each.module) for each in pairs[key])}


def _replace(layer: Layer, embedding: CompressedEmbedding) -> None:
    """Replace a plain layer by one that is tied to `embedding`; its bias stays on disk if it is kept there."""
    plain = layer.module
    with in_memory(plain):
        tied = tied_to(embedding, plain)
        beside = tied.state_dict()
    if beside and is_offloaded(plain):
        offload(tied, beside)
    layer.replace(tied)


def _embedding(module: nn.Module) -> CompressedEmbedding | None:
    """Return the compressed embedding that a layer is, or is tied to."""
    if isinstance(module, Tied):
        return module.embedding
    return module if isinstance(module, CompressedEmbedding) else None


def refresh_tied_keys(model: Any) -> None:
    """Make transformers recompute its table of tied weights."""
    if hasattr(model, "get_expanded_tied_weights_keys"):
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
