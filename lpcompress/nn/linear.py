"""Drop-in replacements of `nn.Linear`: the factored layer, and the head tied to a compressed embedding."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.errors import LpCompressError
from lpcompress.factor.factorization import Factorization, LowRank
from lpcompress.nn.checks import require_finite
from lpcompress.nn.embedding import CompressedEmbedding
from lpcompress.nn.sizes import Spec, positive_int, read_shape


class FactoredLinear(nn.Linear):
    """A linear layer whose (d_out, d_in) matrix is `weight` (d_out, rank) times `basis` (rank, d_in)."""

    kind: ClassVar[str] = "low_rank_linear"
    holds: ClassVar[type[Factorization]] = LowRank
    replaces: ClassVar[type[nn.Module]] = nn.Linear

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool = True, **where: Any) -> None:
        nn.Module.__init__(self)  # not nn.Linear's, which would allocate the matrix
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.zeros(out_features, rank, **where))
        self.basis = nn.Parameter(torch.zeros(rank, in_features, **where))
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_features, **where)) if bias else None)

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise if `like` does more than a matrix product."""
        if type(like) is not nn.Linear:
            raise LpCompressError(f"the layer must be a plain torch.nn.Linear. Got {type(like).__name__}.")

    @classmethod
    def from_spec(cls, spec: Spec, like: nn.Linear) -> Self:
        """Build an empty module of the sizes in `spec`, on the device and in the dtype of `like`."""
        rows, columns = read_shape(spec, (like.out_features, like.in_features))
        where = {"device": like.weight.device, "dtype": like.weight.dtype}
        return cls(columns, rows, positive_int(spec, "rank"), bias=like.bias is not None, **where)

    @classmethod
    def spec_for(cls, factorization: LowRank) -> Spec:
        """Return shape and rank."""
        return {"shape": list(factorization.shape), "rank": factorization.right.shape[0]}

    def factorization(self) -> LowRank:
        """Return this module's own tensors (not copies) as a factorization."""
        return LowRank(self.weight, self.basis)

    def spec(self) -> Spec:
        """Return the sizes from which `from_spec` rebuilds this module."""
        return {"kind": self.kind, **self.spec_for(self.factorization())}

    @torch.no_grad()
    def fill(self, factorization: LowRank, like: nn.Linear, padding_row: Tensor | None = None) -> None:
        """Take over the numbers of `factorization` and the bias of `like`; a linear layer has no padding row."""
        self.weight.copy_(factorization.left)
        self.basis.copy_(factorization.right)
        if self.bias is not None:
            self.bias.copy_(like.bias)
        self.train(like.training)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., d_in) to (..., d_out)."""
        return functional.linear(functional.linear(hidden, self.basis), self.weight, self.bias)

    def dense(self) -> Tensor:
        """Return the (d_out, d_in) weight of the plain layer that this one stands for."""
        return self.factorization().dense()

    def check(self, name: str) -> None:
        """Raise CheckpointError if a factor is not finite."""
        require_finite(name, self)


class TiedHead(nn.Linear):
    """A language-model head that multiplies by the transposed matrix of a compressed embedding.

    It has a bias at most. The embedding is *referred to*, not registered: its parameters are stored once,
    and whatever happens to them (training, moving, resizing) happens here too. There is no `weight`,
    so that nothing of transformers tries to tie or initialise one.
    """

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
