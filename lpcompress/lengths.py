"""How long a text a model can read."""

from typing import Any

from torch import nn


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
