"""The language-model head that shares a compressed embedding."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.nn.embedding import CompressedEmbedding


class TiedHead(nn.Linear):
    """A language-model head that multiplies by the transposed matrix of a compressed embedding.

    It has a bias at most. The embedding is *referred to*, not registered: its parameters are stored once,
    and whatever happens to them (training, moving, resizing) happens here too. There is no `weight`,
    so that nothing of transformers tries to tie or initialise one.
    """

    _is_hf_initialized: ClassVar = True  # or GPT-2's initialisation looks for a weight (transformers 5.0)

    def __init__(self, embedding: CompressedEmbedding, bias: nn.Parameter | None) -> None:
        nn.Module.__init__(self)
        self.reference = (embedding,)  # a tuple, so that it is not registered as a child
        self.register_parameter("bias", bias)

    @property
    def embedding(self) -> CompressedEmbedding:
        """The embedding that is shared."""
        return self.reference[0]

    @property
    def in_features(self) -> int:  # type: ignore[override]
        """Width of the hidden states."""
        return self.embedding.embedding_dim

    @property
    def out_features(self) -> int:  # type: ignore[override]
        """Number of tokens, always that of the embedding."""
        return self.embedding.num_embeddings

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., d) to (..., n)."""
        logits = self.embedding(hidden, project=True).to(hidden.device)
        return logits if self.bias is None else logits + self.bias

    @torch.no_grad()
    def follow(self) -> None:
        """Give the bias the length of the embedding after a resize, with zeros for new tokens."""
        if self.bias is not None:
            self.bias.data = functional.pad(self.bias.data, (0, self.out_features - self.bias.shape[0]))

    def plain(self) -> nn.Linear:
        """Return an ordinary layer with the same bias and, until it is tied, no weight."""
        plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        plain.bias = self.bias
        return plain
