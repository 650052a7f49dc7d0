"""Layers that are tied to a compressed embedding: heads, and embeddings of an encoder or a decoder."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.errors import LpCompressError
from lpcompress.formats.readable import refuse_writing
from lpcompress.nn.embedding import CompressedEmbedding
from lpcompress.nn.scale import Scale, is_knowable, plain_embedding, scale_of


class Tied(nn.Module):
    """Base of the layers that use the matrix of a compressed embedding instead of one of their own.

    The embedding is *referenced*, not registered: its tensors are stored once, and training, moving or resizing them
    takes effect here too. There is no parameter `weight`, so that transformers does not try to tie or initialise one;
    code that reads `weight` gets that of the embedding.

    Parameters
    ----------
    embedding : CompressedEmbedding
        Of shape (n, d).
    """

    _is_hf_initialized: ClassVar = True  # else GPT-2's initialisation looks for a weight (transformers 5.0)

    def __init__(self, embedding: CompressedEmbedding) -> None:
        nn.Module.__init__(self)
        self.reference = (embedding,)  # a tuple, so that it is not registered as a child

    @property
    def embedding(self) -> CompressedEmbedding:
        """The shared embedding."""
        return self.reference[0]

    @property
    def weight(self) -> Tensor:
        """The weight of the embedding, read-only."""
        return self.embedding.weight

    @weight.setter
    def weight(self, value: Any) -> None:
        refuse_writing()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; refuse to set `weight` to a parameter, before torch finds that the name is taken."""
        if name == "weight":
            refuse_writing()
        super().__setattr__(name, value)

    def plain(self, weight: nn.Parameter) -> nn.Module:
        """Return the plain layer that this one replaces, with `weight` (n, d), that of the plain embedding."""
        raise NotImplementedError


class TiedHead(Tied, nn.Linear):
    """A language-model head that multiplies by the transposed matrix of a compressed embedding.

    Its only parameter is an optional bias.

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

    def __init__(self, embedding: CompressedEmbedding, bias: nn.Parameter | None) -> None:
        super().__init__(embedding)
        embedding.multiplies = True
        self.register_parameter("bias", bias)

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

    def plain(self, weight: nn.Parameter) -> nn.Linear:
        """Return a plain linear layer with `weight` (n, d) and the same bias."""
        plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        plain.weight, plain.bias = weight, self.bias
        return plain


class TiedEmbedding(Tied, nn.Embedding):
    """An embedding, of a decoder for example, that looks up rows in a compressed one.

    Parameters
    ----------
    embedding : CompressedEmbedding
        Of shape (n, d).
    scale : Scale, optional
        The constant by which this embedding multiplies its rows, whatever that of the other does.

    Examples
    --------
    >>> from lpcompress.nn import build
    >>> spec = {"kind": "low_rank", "shape": [50, 8], "rank": 2, "padding_idx": None}
    >>> shared = build(spec, like=nn.Embedding(50, 8))
    >>> TiedEmbedding(shared)(torch.tensor([[3, 1]])).shape
    torch.Size([1, 2, 8])
    """

    max_norm = None
    scale_grad_by_freq = sparse = False

    def __init__(self, embedding: CompressedEmbedding, scale: Scale | None = None) -> None:
        super().__init__(embedding)
        self.scale = scale

    @property
    def num_embeddings(self) -> int:  # type: ignore[override]
        """Number of tokens, always that of the embedding."""
        return self.embedding.num_embeddings

    @property
    def embedding_dim(self) -> int:  # type: ignore[override]
        """Width of the rows."""
        return self.embedding.embedding_dim

    @property
    def padding_idx(self) -> int | None:  # type: ignore[override]
        """Index of the padding row, that of the embedding."""
        return self.embedding.padding_idx

    def forward(self, ids: Tensor) -> Tensor:
        """Look up rows: `ids` of any shape to (*ids.shape, d)."""
        rows = self.embedding(ids, scaled=False)
        return self.scale(rows) if self.scale else rows

    def extra_repr(self) -> str:
        """Return the sizes, for `repr`; torch reads them from the attributes of a plain embedding."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"

    def plain(self, weight: nn.Parameter) -> nn.Embedding:
        """Return a plain embedding with `weight` (n, d) and the same scale."""
        shape = self.num_embeddings, self.embedding_dim
        plain = plain_embedding(*shape, self.padding_idx, device="meta", scale=self.scale)
        plain.weight = weight
        return plain


def can_be_tied(plain: nn.Module, scale: Scale | None) -> bool:
    """Return whether a layer that shares the weight of an embedding can be tied to it once that is compressed.

    Parameters
    ----------
    plain : nn.Module
    scale : Scale or None
        The constant by which that embedding multiplies its rows.
    """
    if isinstance(plain, nn.Linear):
        return type(plain).forward is nn.Linear.forward
    if not isinstance(plain, nn.Embedding):
        return False
    if not is_knowable(plain):  # a checkpoint is being loaded, whose layers were asked when it was written
        return True
    try:
        own = scale_of(plain)
    except LpCompressError:
        return False
    return own == scale or next(plain.buffers(), None) is None  # else it would not be knowable while loading


def tied_to(embedding: CompressedEmbedding, plain: nn.Linear | nn.Embedding) -> Tied:
    """Return the layer that takes the place of `plain`, a linear layer or an embedding, and uses `embedding`."""
    if isinstance(plain, nn.Linear):
        made: Tied = TiedHead(embedding, plain.bias)
    else:  # one that is not known yet is the same: see `can_be_tied`
        made = TiedEmbedding(embedding, scale_of(plain) if is_knowable(plain) else embedding.scale)
    return made.train(plain.training)
