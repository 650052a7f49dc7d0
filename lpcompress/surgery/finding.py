"""Select layers of a model by keywords and wildcards."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.surgery.architectures import in_attention
from lpcompress.surgery.layer import Layer, input_embedding, layers_of


def is_linear(layer: Layer) -> bool:
    """Return whether `layer` is a linear layer of the model's body (not of a head or a pooler)."""
    return layer.role == "linear" and layer.in_body


def is_attention(layer: Layer) -> bool:
    """Return whether `layer` is a projection in an attention block."""
    return is_linear(layer) and in_attention(layer.name)


def is_feed_forward(layer: Layer) -> bool:
    """Return whether `layer` is a linear layer of a numbered block, outside its attention."""
    numbered = any(part.isdigit() for part in layer.name.split("."))
    return numbered and is_linear(layer) and not in_attention(layer.name)


def is_convolution(layer: Layer) -> bool:
    """Return whether `layer` is a convolution of the model's body."""
    return layer.role == "conv" and layer.in_body


def is_any(layer: Layer) -> bool:
    """Return whether `layer` is the word embedding, or a linear layer or a convolution of the model's body."""
    return layer.is_word_embedding or is_linear(layer) or is_convolution(layer)


WORDS: dict[str, Callable[[Layer], bool]] = {
    "embedding": lambda layer: layer.is_word_embedding,
    "linear": is_linear,
    "attention": is_attention,
    "ffn": is_feed_forward,
    "conv": is_convolution,
    "all": is_any,
}
"""Keyword of `--layers` -> predicate that selects layers."""


def find_layers(model: nn.Module, patterns: Iterable[str]) -> dict[str, Layer]:
    """Return the plain layers that `patterns` select, by name, in model order.

    Parameters
    ----------
    model : PreTrainedModel
    patterns : iterable of str
        Keywords (see `WORDS`) or shell wildcards over module names. Keywords skip heads, poolers and layers that cannot
        be factored; a wildcard may match a head.

    Returns
    -------
    dict of str to Layer

    Raises
    ------
    LpCompressError
        If a pattern matches no layer, or matches a layer that is already compressed or cannot be factored.

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
    """Return whether a wildcard among `patterns`, not only a keyword, selects the layer `name`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns if pattern not in WORDS)


def _matches(model: nn.Module, pattern: str, layers: Mapping[str, Layer]) -> list[str]:
    """Return the names of the `layers` that one pattern selects; raise if there are none."""
    selects = WORDS.get(pattern)
    if selects is None:
        found = [name for name in layers if fnmatchcase(name, pattern)]
    else:
        found = [name for name, layer in layers.items() if selects(layer) and not _is_special(layer)]
    if not found:
        near = difflib.get_close_matches(pattern, WORDS, n=1, cutoff=0.8)
        near = [] if selects else near or difflib.get_close_matches(pattern, layers, n=3, cutoff=0.3)
        names = f" Keywords: {', '.join(WORDS)}. `lpcompress inspect` shows layer names."
        raise LpCompressError(
            f"layers {pattern!r} matched no layer of this {type(model).__name__} that can be factored."
            + (f" Nearest: {', '.join(map(repr, near))}." if near else names)
        )
    shared = getattr(input_embedding(model), "weight", None)
    for name in found:
        _refuse_unsupported(layers[name], shared)
    return found


def _is_special(layer: Layer) -> bool:
    """Return whether a layer computes more than a product (groups, its own forward), so that keywords skip it."""
    try:
        layer.refuse()
    except LpCompressError:
        return not layer.is_compressed
    return False


def _refuse_unsupported(layer: Layer, shared: nn.Parameter | None) -> None:
    """Raise LpCompressError unless `layer` is plain and replaceable; `shared` is the weight of the word embedding."""
    if layer.is_compressed:
        raise LpCompressError(
            f"{layer.name} is already compressed ({type(layer.module).__name__}). Start from the dense model."
        )
    if not layer.is_word_embedding and layer.module.weight is shared:
        raise LpCompressError(
            f"{layer.name} shares its weight with the word embedding and is compressed together with it. Select"
            " 'embedding' instead."
        )
    try:
        layer.refuse()
    except LpCompressError as error:
        raise LpCompressError(f"{layer.name}: {error}") from None
