"""What is odd about which architecture: one row a thing."""

import re
from typing import Any

from torch import nn

from lpcompress.nn import FROM_HEADS, INTO_HEADS

FEED_FORWARD = {
    "BertLayer": ("intermediate.dense", "output.dense"),
    "RobertaLayer": ("intermediate.dense", "output.dense"),
    "FFN": ("lin1", "lin2"),  # DistilBERT
    "XLNetFeedForward": ("layer_1", "layer_2"),
    "GPT2MLP": ("c_fc", "c_proj"),
}
"""Class of a block -> two of its layers with nothing but a function of each entry between them."""


def longest_text(model: nn.Module, tokenizer: Any) -> int:
    """Return how many tokens of a text both a model and its tokenizer take, special ones included.

    A tokenizer may not know how many positions its model has, or be another model's. Positions are those of tables
    that are called `position_embeddings`, as in BERT and its kin; elsewhere the tokenizer is believed.
    """
    return min([tokenizer.model_max_length, *map(_positions, _position_tables(model))])


def _position_tables(model: nn.Module) -> list[nn.Embedding]:
    return [
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]


def _positions(table: nn.Embedding) -> int:
    """Return the positions of tokens: where padding has one (RoBERTa), they begin behind it."""
    first = 0 if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - first


ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)  # BERT's attention.self, GPT-2's attn, XLNet's rel_attn
HEADS = {"pooler", "classifier", "qa_outputs", "lm_head", "score", "predictions"}
"""Parts of names that no word asks for, in models too whose heads do not stand beside a base model."""

BARE_WEIGHTS = {"XLNetRelativeAttention": dict.fromkeys("qkvr", INTO_HEADS) | {"o": FROM_HEADS}}
"""Class of a module -> its parameters that are layers in all but name, and how the class multiplies by them."""


def reads_padding(config: Any) -> bool:
    """Tell whether a classifier reads its class off positions that padding shifts or adds to, as XLNet's does."""
    return getattr(config, "summary_type", None) in ("last", "mean")
