"""Architecture-specific facts: one row per architecture.

Classes and names are matched as text, so no model code is imported. Facts about names and blocks apply wherever the
name or block occurs, because blocks of one architecture turn up inside others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from lpcompress.nn import FROM_HEADS, INTO_HEADS


@dataclass(frozen=True)
class Architecture:
    """Facts specific to one architecture; fields that do not apply are left out.

    Attributes
    ----------
    name : str
        Display name.
    feed_forward : mapping of str to (str, str)
        Class of a block -> names of two of its layers with only an entrywise function between them, so that the outputs
        of the first and the inputs of the second can be permuted together.
    bare_weights : mapping of str to mapping of str to str
        Class of a module -> name of a parameter that is used as a layer's weight -> the `torch.einsum` equation in
        which the class multiplies by it.
    attention : str
        Regular expression that matches in the names of attention layers; case is ignored.
    heads : tuple of str
        Components of the dotted names of heads. Keywords such as `linear` exclude these layers even in models whose
        heads are not separate from the base model.
    poolers : tuple of str
        The same of poolers, which only the keyword `all` includes.
    positions : str
        Last component of the name of the position embedding, a table that its model only looks up. If it has a padding
        row, token positions start after it (RoBERTa).
    padded_summaries : tuple of str
        Values of the config's `summary_type` for which a classifier reads positions that padding shifts or adds.
    """

    name: str
    feed_forward: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    bare_weights: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    attention: str = ""
    heads: tuple[str, ...] = ()
    poolers: tuple[str, ...] = ()
    positions: str = ""
    padded_summaries: tuple[str, ...] = ()


ARCHITECTURES = (
    Architecture(
        "BERT",
        feed_forward={"BertLayer": ("intermediate.dense", "output.dense")},
        attention="attention",
        heads=("classifier", "qa_outputs", "predictions"),
        poolers=("pooler",),
        positions="position_embeddings",
    ),
    Architecture(
        "RoBERTa",
        feed_forward={"RobertaLayer": ("intermediate.dense", "output.dense")},
        attention="attention",
        heads=("classifier", "qa_outputs", "lm_head"),
        poolers=("pooler",),
        positions="position_embeddings",
    ),
    Architecture(
        "DistilBERT",
        feed_forward={"FFN": ("lin1", "lin2")},
        attention="attention",
        heads=("classifier", "qa_outputs"),
        positions="position_embeddings",
    ),
    Architecture(
        "XLNet",
        feed_forward={"XLNetFeedForward": ("layer_1", "layer_2")},
        bare_weights={"XLNetRelativeAttention": dict.fromkeys("qkvr", INTO_HEADS) | {"o": FROM_HEADS}},
        attention="attn",
        padded_summaries=("last", "mean"),
    ),
    Architecture(
        "GPT-2",
        feed_forward={"GPT2MLP": ("c_fc", "c_proj")},
        attention="attn",
        heads=("lm_head", "score"),
        positions="wpe",
    ),
)

_ATTENTION = re.compile("|".join({row.attention for row in ARCHITECTURES if row.attention}), re.IGNORECASE)
_HEADS = frozenset(part for row in ARCHITECTURES for part in row.heads)
_POOLERS = frozenset(part for row in ARCHITECTURES for part in row.poolers)
_POSITIONS = frozenset(row.positions for row in ARCHITECTURES if row.positions)
_PADDED_SUMMARIES = frozenset(summary for row in ARCHITECTURES for summary in row.padded_summaries)


def feed_forward_pair(block: nn.Module) -> tuple[str, str] | None:
    """Return the names of the two layers of a feed-forward block, or None for other modules."""
    cls = type(block).__name__
    return next((row.feed_forward[cls] for row in ARCHITECTURES if cls in row.feed_forward), None)


def bare_weights(module: nn.Module) -> Mapping[str, str]:
    """Return the parameters of a module that are used as layer weights, with their `torch.einsum` equations."""
    cls = type(module).__name__
    return next((row.bare_weights[cls] for row in ARCHITECTURES if cls in row.bare_weights), {})


def in_attention(name: str) -> bool:
    """Return whether the layer `name` belongs to an attention block."""
    return _ATTENTION.search(name) is not None


def in_head(name: str) -> bool:
    """Return whether the layer `name` belongs to a head or a pooler."""
    return not _HEADS.isdisjoint(name.split(".")) or in_pooler(name)


def in_pooler(name: str) -> bool:
    """Return whether the layer `name` belongs to a pooler."""
    return not _POOLERS.isdisjoint(name.split("."))


def holds_positions(name: str) -> bool:
    """Return whether the layer `name` is a position embedding that its model only looks up."""
    return name.rpartition(".")[2] in _POSITIONS


def reads_padding(config: Any) -> bool:
    """Return whether a classifier reads positions that padding shifts or adds, so that batches must not be padded."""
    return getattr(config, "summary_type", None) in _PADDED_SUMMARIES


def longest_text(model: nn.Module, tokenizer: Any) -> int:
    """Return the largest number of tokens that both a model and its tokenizer accept, special tokens included.

    A tokenizer may lack the model's number of positions, or may belong to another model, so the sizes of the position
    embeddings are used too. For a model without one, the tokenizer's limit is returned.

    Parameters
    ----------
    model : nn.Module
    tokenizer : PreTrainedTokenizerBase

    Returns
    -------
    int
    """
    tables = [
        module for name, module in model.named_modules() if holds_positions(name) and isinstance(module, nn.Embedding)
    ]
    return min([tokenizer.model_max_length, *map(_token_positions, tables)])


def _token_positions(table: nn.Embedding) -> int:
    """Return the number of token positions in a position embedding: its rows after the padding row, if any."""
    first = 0 if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - first
