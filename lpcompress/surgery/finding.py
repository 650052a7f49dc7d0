"""Finding layers in a model."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import BareWeight, is_compressed_module, role_of
from lpcompress.surgery.architectures import ATTENTION, BARE_WEIGHTS, HEADS
from lpcompress.surgery.offloading import in_memory


def input_embedding(model: Any) -> Any:
    """Return the word embedding, None for models (of images, of sound) that have none."""
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # what transformers raises for models without one
        return None


def is_embedding(model: Any, name: str, layer: nn.Module) -> bool:
    """Tell whether `layer` is the word embedding."""
    return role_name(layer) == "embedding" and layer is input_embedding(model)


def is_linear(model: Any, name: str, layer: nn.Module) -> bool:
    """Tell whether `layer` is a linear layer of the model's body."""
    return role_name(layer) == "linear" and in_body(model, name)


def is_attention(model: Any, name: str, layer: nn.Module) -> bool:
    """Tell whether `layer` is a projection of an attention."""
    return is_linear(model, name, layer) and ATTENTION.search(name) is not None


def is_feed_forward(model: Any, name: str, layer: nn.Module) -> bool:
    """Tell whether `layer` is a linear layer of a numbered block, outside its attention."""
    numbered = any(part.isdigit() for part in name.split("."))
    return numbered and is_linear(model, name, layer) and not ATTENTION.search(name)


def is_convolution(model: Any, name: str, layer: nn.Module) -> bool:
    """Tell whether `layer` is a convolution of the model's body."""
    return role_name(layer) == "conv" and in_body(model, name)


def is_any(model: Any, name: str, layer: nn.Module) -> bool:
    """Tell whether `layer` is the word embedding, or a linear layer or a convolution of the model's body."""
    return any(asks(model, name, layer) for asks in (is_embedding, is_linear, is_convolution))


WORDS: dict[str, Callable[[Any, str, nn.Module], bool]] = {
    "embedding": is_embedding,
    "linear": is_linear,
    "attention": is_attention,
    "ffn": is_feed_forward,
    "conv": is_convolution,
    "all": is_any,
}


def role_name(layer: nn.Module) -> str | None:
    """Return embedding, linear or conv; None for layers that cannot be factored."""
    role = role_of(layer)
    return role.word if role else None


def in_body(model: Any, name: str) -> bool:
    """Tell whether a layer belongs to the model proper: not to its heads, not to its pooler."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    return name.startswith(prefix) and HEADS.isdisjoint(name.split("."))


def find_layers(model: nn.Module, patterns: Iterable[str]) -> dict[str, nn.Module]:
    """Return the plain layers that `patterns` ask for, by name, in the order of the model.

    Parameters
    ----------
    model : PreTrainedModel
    patterns : iterable of str
        Words (see `WORDS`) or shell wildcards over module names. Words leave out heads, poolers and layers that
        cannot be factored; a wildcard may name a head.

    Raises
    ------
    LpCompressError
        If a pattern matches nothing, a layer is compressed already, or a wildcard names one that cannot be factored.
    """
    layers = {name: layer for name, layer in all_layers(model).items() if role_of(layer) and hasattr(layer, "weight")}
    chosen: set[str] = set()
    for pattern in patterns:
        chosen.update(matches(model, pattern, layers))
    return {name: layer for name, layer in layers.items() if name in chosen}


def matches(model: nn.Module, pattern: str, layers: dict[str, nn.Module]) -> list[str]:
    """Return the names of those of `layers` that one pattern asks for; at least one, or raise."""
    asks = WORDS.get(pattern)
    if asks is None:
        found = [name for name in layers if fnmatchcase(name, pattern)]
    else:
        found = [name for name, layer in layers.items() if asks(model, name, layer) and not is_special(layer)]
    if not found:
        near = difflib.get_close_matches(pattern, WORDS, n=1, cutoff=0.8)
        near = [] if asks else near or difflib.get_close_matches(pattern, layers, n=3, cutoff=0.3)
        names = f" Words are {', '.join(WORDS)}; `lpcompress inspect` shows the names of layers."
        raise LpCompressError(
            f"layers {pattern!r} matched no layer of this {type(model).__name__} that can be factored."
            + (f" Nearest: {', '.join(map(repr, near))}." if near else names)
        )
    for name in found:
        refuse_unsupported(model, name, layers[name])
    return found


def is_special(layer: nn.Module) -> bool:
    """Tell whether a layer does more than its matrix says (groups, a forward of its own), so that words pass it by."""
    try:
        refuse_layer(layer)
    except LpCompressError:
        return not is_compressed_module(layer)
    return False


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a wildcard asks for the layer `name`, and not only a word."""
    return any(fnmatchcase(name, pattern) for pattern in patterns if pattern not in WORDS)


def refuse_unsupported(model: Any, name: str, layer: nn.Module) -> None:
    """Raise unless `layer` is plain and can be replaced."""
    if is_compressed_module(layer):
        raise LpCompressError(f"{name} is compressed already ({type(layer).__name__}); start from the dense model.")
    embedding = input_embedding(model)
    if layer is not embedding and layer.weight is getattr(embedding, "weight", None):
        raise LpCompressError(
            f"{name} shares its weight with the word embedding, and follows it by itself. Ask for 'embedding' instead."
        )
    try:
        refuse_layer(layer)
    except LpCompressError as error:
        raise LpCompressError(f"{name}: {error}") from None


def refuse_layer(layer: nn.Module) -> None:
    """Raise if nothing can take the place of `layer`."""
    role = role_of(layer)
    if role is None:
        raise LpCompressError(f"a {type(layer).__name__} has no matrix that can be factored.")
    role.refuse(layer)


def all_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return every module by name, and every bare weight as the layer that it is, in the order of the model."""
    layers: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        layers[name] = module
        for leaf, equation in BARE_WEIGHTS.get(type(module).__name__, {}).items():
            weight = getattr(module, leaf)
            if isinstance(weight, nn.Parameter):
                layers[f"{name}.{leaf}".lstrip(".")] = BareWeight(weight, equation)
    return layers


def owner_of(model: nn.Module, name: str) -> nn.Module:
    """Return the module that holds the tensors of the layer called `name`: that of a bare weight is its parent."""
    owner = dict(model.named_modules()).get(name)
    return model.get_submodule(name.rpartition(".")[0]) if owner is None else owner


@contextmanager
def lend_layer(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """Lend out the plain layer called `name`, its tensors in memory even if those of the model stay on the disk."""
    with in_memory(owner_of(model, name)):
        yield all_layers(model)[name]
