"""The language-model head that is tied to a compressed embedding."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.nn.embedding import CompressedEmbedding


class TiedHead(nn.Linear):
    """A language-model head that multiplies by the transposed matrix of a compressed embedding.

    Its only parameter is an optional bias. The embedding is *referenced*, not registered: its parameters are stored
    once, and training, moving or resizing them takes effect here too. There is no `weight`, so that transformers does
    not try to tie or initialise one.

    Parameters
    ----------
    embedding : CompressedEmbedding
        Of shape (n, d).
    bias : Parameter of shape (n,) or None

    Examples
    --------
    >>> from lpcompress.nn import build
    >>> spec = {"kind": "low_rank", "shape": [50, 8], "rank": 2, "padding_idx": None}
    >>> head = TiedHead(build(spec, like=nn.Embedding(50, 8)), bias=None)
    >>> head(torch.randn(3, 8)).shape
    torch.Size([3, 50])
    """

    _is_hf_initialized: ClassVar = True  # else GPT-2's initialisation looks for a weight (transformers 5.0)

    def __init__(self, embedding: CompressedEmbedding, bias: nn.Parameter | None) -> None:
        nn.Module.__init__(self)
        self.reference = (embedding,)  # a tuple, so that it is not registered as a child
        self.register_parameter("bias", bias)

    @property
    def embedding(self) -> CompressedEmbedding:
        """The shared embedding."""
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
        """Resize the bias after a resize of the embedding, with zeros for new tokens."""
        if self.bias is not None:
            self.bias.data = functional.pad(self.bias.data, (0, self.out_features - self.bias.shape[0]))

    def plain(self) -> nn.Linear:
        """Return a plain linear layer with the same bias; its weight is on `meta` until it is tied."""
        plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        plain.bias = self.bias
        return plain
