"""`resize_token_embeddings` for models whose embedding is compressed.

transformers makes a new embedding with more or fewer rows. A compressed one changes its own tensors instead, so the
method that does this work is replaced on the *instance*; neither transformers' classes nor the model's class change,
and what the model's class adds (a bias per token, in BART or LXMERT) still happens.
"""

import weakref
from typing import Any

from torch import nn

from lpcompress.nn import CompressedEmbedding, Tied, TiedHead
from lpcompress.surgery.layer import input_embedding

METHOD = "_resize_token_embeddings"  # what `resize_token_embeddings` of every class calls


class Resizer:
    """Replacement for the `_resize_token_embeddings` of one model; survives deepcopy and pickle."""

    def __init__(self, model: nn.Module) -> None:
        self.model = weakref.ref(model)  # weak: a reference cycle would keep a discarded model in memory

    def __reduce__(self) -> tuple[type, tuple[nn.Module | None]]:
        return Resizer, (self.model(),)

    def __call__(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Resize the embedding and the heads; new rows equal the mean row."""
        model: Any = self.model()
        embedding = model.get_input_embeddings()
        if not isinstance(embedding, CompressedEmbedding):  # replaced in the meantime
            return getattr(type(model), METHOD)(model, new_num_tokens, pad_to_multiple_of, mean_resizing)
        if new_num_tokens is None and pad_to_multiple_of is None:
            return embedding
        tokens = embedding.num_embeddings if new_num_tokens is None else new_num_tokens
        tokens += -tokens % (pad_to_multiple_of or 1)
        embedding.resize(tokens)
        for head in model.modules():
            if isinstance(head, TiedHead) and head.embedding is embedding:
                head.follow()
        self.resize_untied_head(model, tokens, mean_resizing)
        model.config.quantization_config.refresh(model)
        return embedding

    @staticmethod
    def resize_untied_head(model: Any, tokens: int, mean_resizing: bool) -> None:
        """Resize an output layer that has its own weight, with transformers' code."""
        head = model.get_output_embeddings()
        if head is not None and not isinstance(head, Tied):
            model.set_output_embeddings(model._get_resized_lm_head(head, tokens, mean_resizing=mean_resizing))


def follow_resizing(model: nn.Module) -> None:
    """Install a `Resizer` on every (sub)model with a compressed word embedding."""
    for part in model.modules():
        if not hasattr(type(part), METHOD):
            continue
        if isinstance(input_embedding(part), CompressedEmbedding):
            setattr(part, METHOD, Resizer(part))


def restore_resizing(model: nn.Module) -> None:
    """Undo `follow_resizing`."""
    for part in model.modules():
        vars(part).pop(METHOD, None)
