"""Finding layers in a model by words and wildcards."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.surgery.architectures import in_attention
from lpcompress.surgery.layer import Layer, input_embedding, layers_of


def is_linear(layer: Layer) -> bool:
    """Tell whether `layer` is a linear layer of the model's body."""
    return layer.role == "linear" and layer.in_body


def is_attention(layer: Layer) -> bool:
    """Tell whether `layer` is a projection of an attention."""
    return is_linear(layer) and in_attention(layer.name)


def is_feed_forward(layer: Layer) -> bool:
    """Tell whether `layer` is a linear layer of a numbered block, outside its attention."""
    numbered = any(part.isdigit() for part in layer.name.split("."))
    return numbered and is_linear(layer) and not in_attention(layer.name)


def is_convolution(layer: Layer) -> bool:
    """Tell whether `layer` is a convolution of the model's body."""
    return layer.role == "conv" and layer.in_body


def is_any(layer: Layer) -> bool:
    """Tell whether `layer` is the word embedding, or a linear layer or a convolution of the model's body."""
    return layer.is_word_embedding or is_linear(layer) or is_convolution(layer)


WORDS: dict[str, Callable[[Layer], bool]] = {
    "embedding": lambda layer: layer.is_word_embedding,
    "linear": is_linear,
    "attention": is_attention,
    "ffn": is_feed_forward,
    "conv": is_convolution,
    "all": is_any,
}
"""What a word of `--layers` asks for."""


def find_layers(model: nn.Module, patterns: Iterable[str]) -> dict[str, Layer]:
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

    Examples
    --------
    >>> import transformers
    >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 12}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes))
    >>> for name, layer in find_layers(model, ["embedding", "ffn"]).items():
    ...     print(name, layer.role, tuple(layer.matrix().shape))
    embeddings.word_embeddings embedding (50, 8)
    encoder.layer.0.intermediate.dense linear (12, 8)
    encoder.layer.0.output.dense linear (8, 12)
    """
    layers = {name: layer for name, layer in layers_of(model).items() if layer.has_matrix}
    chosen: set[str] = set()
    for pattern in patterns:
        chosen.update(_matches(model, pattern, layers))
    return {name: layer for name, layer in layers.items() if name in chosen}


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a wildcard asks for the layer `name`, and not only a word."""
    return any(fnmatchcase(name, pattern) for pattern in patterns if pattern not in WORDS)


def _matches(model: nn.Module, pattern: str, layers: Mapping[str, Layer]) -> list[str]:
    """Return the names of those of `layers` that one pattern asks for; at least one, or raise."""
    asks = WORDS.get(pattern)
    if asks is None:
        found = [name for name in layers if fnmatchcase(name, pattern)]
    else:
        found = [name for name, layer in layers.items() if asks(layer) and not _is_special(layer)]
    if not found:
        near = difflib.get_close_matches(pattern, WORDS, n=1, cutoff=0.8)
        near = [] if asks else near or difflib.get_close_matches(pattern, layers, n=3, cutoff=0.3)
        names = f" Words are {', '.join(WORDS)}; `lpcompress inspect` shows the names of layers."
        raise LpCompressError(
            f"layers {pattern!r} matched no layer of this {type(model).__name__} that can be factored."
            + (f" Nearest: {', '.join(map(repr, near))}." if near else names)
        )
    shared = getattr(input_embedding(model), "weight", None)
    for name in found:
        _refuse_unsupported(layers[name], shared)
    return found


def _is_special(layer: Layer) -> bool:
    """Tell whether a layer does more than its matrix says (groups, a forward of its own), so that words skip it."""
    try:
        layer.refuse()
    except LpCompressError:
        return not layer.is_compressed
    return False


def _refuse_unsupported(layer: Layer, shared: nn.Parameter | None) -> None:
    """Raise unless `layer` is plain and can be replaced; `shared` is the weight of the word embedding."""
    if layer.is_compressed:
        raise LpCompressError(
            f"{layer.name} is compressed already ({type(layer.module).__name__}); start from the dense model."
        )
    if not layer.is_word_embedding and layer.module.weight is shared:
        raise LpCompressError(
            f"{layer.name} shares its weight with the word embedding, and follows it by itself. Ask for 'embedding'"
            " instead."
        )
    try:
        layer.refuse()
    except LpCompressError as error:
        raise LpCompressError(f"{layer.name}: {error}") from None
