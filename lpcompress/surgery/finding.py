"""Select layers of a model by keywords and wildcards."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.surgery.architectures import holds_positions, in_attention, in_pooler
from lpcompress.surgery.layer import Layer, layers_of
from lpcompress.surgery.tying import refuse_shared, sharing
from lpcompress.surgery.writing import is_written_to


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
    """Return whether `layer` is an embedding of words or positions, or belongs to the model's body or its pooler.

    Of the body and the pooler these are linear layers and convolutions. Position embeddings and poolers are a fifth of
    what a small BERT has left at a tenth of its bytes, if they stay dense.
    """
    if layer.role == "embedding":
        return layer.is_word_embedding or holds_positions(layer.name)
    return is_linear(layer) or is_convolution(layer) or (layer.role == "linear" and in_pooler(layer.name))


WORDS: dict[str, Callable[[Layer], bool]] = {
    "embedding": lambda layer: layer.is_word_embedding,
    "linear": is_linear,
    "attention": is_attention,
    "ffn": is_feed_forward,
    "conv": is_convolution,
    "all": is_any,
}
"""Keyword of `--layers` -> predicate that selects layers."""


@dataclass(frozen=True)
class Chosen:
    """The layers that patterns select.

    Attributes
    ----------
    layers : dict of str to Layer
        Plain layers that can be replaced, by name, in model order.
    skipped : dict of str to str
        Layers that a keyword selects but that cannot be replaced -> the reason.
    """

    layers: dict[str, Layer]
    skipped: dict[str, str]


def find_layers(model: nn.Module, patterns: Iterable[str]) -> dict[str, Layer]:
    """Return the plain layers that `patterns` select, by name, in model order.

    Parameters
    ----------
    model : PreTrainedModel
    patterns : iterable of str
        Keywords (see `WORDS`) or shell wildcards over module names. Keywords skip heads, poolers (but for `all`), and
        layers that cannot be replaced; a wildcard may match a head.

    Returns
    -------
    dict of str to Layer

    Raises
    ------
    LpCompressError
        If a pattern matches no layer that can be replaced, or matches a layer that is already compressed, or if a
        wildcard matches a layer that cannot be replaced.

    See Also
    --------
    choose_layers : The same, with the reasons why layers are skipped.

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
    return choose_layers(model, patterns).layers


def choose_layers(model: nn.Module, patterns: Iterable[str]) -> Chosen:
    """Return the layers that `patterns` select, and those that keywords skip; see `find_layers`."""
    layers, shared = layers_of(model), sharing(model)
    reasons = {
        name: reason
        for name, layer in layers.items()
        if layer.has_matrix and (reason := _reason_to_refuse(layer, shared.get(name, frozenset()), layers))
    }
    chosen: set[str] = set()
    skipped: dict[str, str] = {}
    for pattern in patterns:
        found = _matches(model, pattern, layers)
        refused = {name: reasons[name] for name in found if name in reasons}
        hopeless = pattern not in WORDS or len(refused) == len(found)
        for name, reason in refused.items():
            if hopeless or layers[name].is_compressed:
                raise LpCompressError(f"{name}: {reason}")
        chosen.update(found - refused.keys())
        skipped |= refused
    return Chosen({name: layer for name, layer in layers.items() if name in chosen}, skipped)


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a wildcard among `patterns`, not only a keyword, selects the layer `name`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns if pattern not in WORDS)


def _matches(model: nn.Module, pattern: str, layers: Mapping[str, Layer]) -> set[str]:
    """Return the names of the `layers` that one pattern selects; raise if there are none."""
    selects = WORDS.get(pattern)
    candidates = {name: layer for name, layer in layers.items() if layer.has_matrix}
    if selects is None:
        found = {name for name in candidates if fnmatchcase(name, pattern)}
    else:
        found = {name for name, layer in candidates.items() if selects(layer)}
    if not found:
        near = difflib.get_close_matches(pattern, WORDS, n=1, cutoff=0.8)
        near = [] if selects else near or difflib.get_close_matches(pattern, candidates, n=3, cutoff=0.3)
        names = f" Keywords: {', '.join(WORDS)}. `lpcompress inspect` shows layer names."
        raise LpCompressError(
            f"layers {pattern!r} matched no layer of this {type(model).__name__} that can be factored."
            + (f" Nearest: {', '.join(map(repr, near))}." if near else names)
        )
    return found


def _reason_to_refuse(layer: Layer, sharers: frozenset[str], layers: Mapping[str, Layer]) -> str | None:
    """Return why `layer` cannot be replaced by a compressed one; None if it can.

    Parameters
    ----------
    layer : Layer
    sharers : frozenset of str
        Names of the layers that have its weight.
    layers : mapping of str to Layer
        All layers of the model.
    """
    if layer.is_compressed:
        return f"it is already compressed ({type(layer.module).__name__}). Start from the dense model."
    if _is_listed(layer):
        return "its model calls it through a Python list, in which it cannot be replaced. Leave the layer out."
    if is_written_to(layer.holder):
        return "its model changes its weight whenever it runs, which factors do not allow. Leave the layer out."
    try:
        layer.refuse()
        refuse_shared(layer, sharers, layers)
    except LpCompressError as error:
        return str(error)
    return None


def _is_listed(layer: Layer) -> bool:
    """Return whether the owner of a layer has it in a plain list as well, as in the pixel decoder of MaskFormer."""
    lists = (value for value in vars(layer.owner).values() if isinstance(value, list | tuple))
    return any(each is layer.holder for value in lists for each in value)
