"""Drop-in replacements of `nn.Embedding`: what they share, and the one with a single subspace."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.factor.factorization import Factorization, LowRank
from lpcompress.nn.checks import require_finite
from lpcompress.nn.sizes import Spec, positive_int, read_shape


class CompressedEmbedding(nn.Embedding):
    """An `nn.Embedding` whose (n, d) matrix is held as a factorization and never built.

    Subclasses name their codes `weight`, so that a loader without this package fails on the size
    instead of running a random layer. `num_embeddings` and `embedding_dim` stay those of the plain
    layer. If there is a `padding_idx`, the buffer `padding_row` (d,) holds that row as it was, and
    stands in the place of the factored one.
    """

    kind: ClassVar[str]
    holds: ClassVar[type[Factorization]]
    replaces: ClassVar[type[nn.Module]] = nn.Embedding
    fields: ClassVar[dict[str, str]]  # field of the factorization -> name in the module
    padding_row: Tensor | None

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, **where: Any) -> None:
        nn.Module.__init__(self)  # not nn.Embedding's, which would allocate the matrix
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = None, 2.0, False, False
        padding_row = None if padding_idx is None else torch.zeros(embedding_dim, **where)
        self.register_buffer("padding_row", padding_row)

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise if `like` does more than look up a row, so that a replacement would change the model."""
        if not isinstance(like, nn.Embedding) or isinstance(like, CompressedEmbedding):
            raise LpCompressError(f"the layer must be a plain torch.nn.Embedding. Got {type(like).__name__}.")
        if type(like).forward is not nn.Embedding.forward:
            raise LpCompressError(
                f"the layer must be a plain torch.nn.Embedding. Got {type(like).__name__}, which has a forward"
                " of its own (a scaled embedding, perhaps); it cannot be replaced yet."
            )
        if like.max_norm is not None or like.sparse:
            raise LpCompressError(
                f"the embedding must have max_norm=None and sparse=False. Got max_norm={like.max_norm},"
                f" sparse={like.sparse}; it cannot be replaced."
            )

    @classmethod
    def from_spec(cls, spec: Spec, like: nn.Embedding) -> Self:
        """Build an empty module of the sizes in `spec`, on the device and in the dtype of `like`."""
        rows, columns = read_shape(spec, (like.num_embeddings, like.embedding_dim))
        padding_idx = spec.get("padding_idx")
        if padding_idx is not None and not (type(padding_idx) is int and 0 <= padding_idx < rows):
            raise CheckpointError(f"'padding_idx' must be null or in 0..{rows - 1}. Got {padding_idx!r}.")
        where = {"device": like.weight.device, "dtype": like.weight.dtype}
        return cls(rows, columns, **cls.sizes_in(spec), padding_idx=padding_idx, **where)

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return the constructor's remaining sizes, read from `spec` and validated."""
        raise NotImplementedError

    @classmethod
    def spec_for(cls, factorization: Any) -> Spec:
        """Return the sizes of the module that holds `factorization`."""
        raise NotImplementedError

    def factorization(self) -> Factorization:
        """Return this module's own tensors (not copies) as a factorization."""
        return self.holds(**{field: getattr(self, name) for field, name in self.fields.items()})

    def spec(self) -> Spec:
        """Return the sizes from which `from_spec` rebuilds this module."""
        return {"kind": self.kind, **self.spec_for(self.factorization()), "padding_idx": self.padding_idx}

    @torch.no_grad()
    def fill(self, factorization: Factorization, like: nn.Embedding, padding_row: Tensor | None = None) -> None:
        """Take over the numbers of `factorization`, and the padding row that `like` has if none is given."""
        for field, name in self.fields.items():
            getattr(self, name).copy_(getattr(factorization, field))
        if self.padding_row is not None:
            self.padding_row.copy_(like.weight[self.padding_idx] if padding_row is None else padding_row)
        self.train(like.training)

    def forward(self, ids: Tensor, *, project: bool = False) -> Tensor:
        """Look rows up, or act as the transposed layer.

        Parameters
        ----------
        ids : integer Tensor of any shape
            With `project`, hidden states of shape (..., d) instead.
        project : bool, default=False
            Multiply by the transposed matrix: this is how a tied head uses its embedding. It passes through
            `forward` so that hooks which bring the weights to the device see it.

        Returns
        -------
        Tensor of shape (*ids.shape, d), or (..., n) with `project`
        """
        if project:
            return self.project(ids)
        rows = self.look_up(ids.reshape(-1)).view(*ids.shape, self.embedding_dim)
        if self.padding_row is None:
            return rows
        return torch.where(self.is_padding(ids).unsqueeze(-1), self.padding_row, rows)

    def is_padding(self, ids: Tensor) -> Tensor:
        """Tell which of `ids` are the padding token."""
        return ids.eq(self.padding_idx)  # type: ignore[arg-type]

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the factored rows, shape (ids, d), for flat `ids`."""
        raise NotImplementedError

    def project(self, hidden: Tensor) -> Tensor:
        """Multiply by the transposed matrix: (..., d) to (..., n)."""
        logits = self.project_factored(hidden)
        if self.padding_row is None:
            return logits
        padding = self.is_padding(self.all_ids())  # (n,)
        return torch.where(padding, (hidden @ self.padding_row).unsqueeze(-1), logits)

    def project_factored(self, hidden: Tensor) -> Tensor:
        """Multiply by the transposed factored matrix: (..., d) to (..., n)."""
        raise NotImplementedError

    def dense(self) -> Tensor:
        """Return the (n, d) weight of the plain layer that this one stands for."""
        matrix = self.factorization().dense()
        if self.padding_row is None:
            return matrix
        return torch.where(self.is_padding(self.all_ids()).unsqueeze(-1), self.padding_row, matrix)

    def all_ids(self) -> Tensor:
        """Return 0 to n - 1."""
        return torch.arange(self.num_embeddings, device=self.weight.device)

    def check(self, name: str) -> None:
        """Raise CheckpointError if the numbers cannot be those of a factorization of these sizes."""
        require_finite(name, self)

    def require(self, condition: Tensor | bool, name: str, what: str) -> None:
        """Raise the CheckpointError of `check` unless `condition` holds."""
        if not bool(condition):
            raise CheckpointError(f"{name}: {what}. The checkpoint is damaged; compress the model again.")

    @torch.no_grad()
    def resize(self, num_embeddings: int) -> None:
        """Drop the last rows, or add rows that hold the mean row's codes, in place."""
        if num_embeddings < 1:
            raise LpCompressError(f"an embedding must keep at least one row. Got {num_embeddings}.")
        if num_embeddings < self.num_embeddings:
            self.shrink(num_embeddings)
        elif num_embeddings > self.num_embeddings:
            self.grow(num_embeddings - self.num_embeddings)
        self.num_embeddings = num_embeddings
        if self.padding_idx is not None and self.padding_idx >= num_embeddings:
            self.padding_idx = self.padding_row = None

    def shrink(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        raise NotImplementedError

    def grow(self, extra: int) -> None:
        """Add `extra` rows."""
        raise NotImplementedError

    def mean_row(self) -> Tensor:
        """Return the mean of the factored rows in float32, shape (d,)."""
        sums = [self.look_up(ids).sum(0, dtype=torch.float32) for ids in self.all_ids().split(8192)]
        return torch.stack(sums).sum(0) / self.num_embeddings

    def extra_repr(self) -> str:
        """Show the sizes."""
        return ", ".join(f"{key}={value}" for key, value in self.spec().items() if value is not None)


class FactoredEmbedding(CompressedEmbedding):
    """An embedding whose matrix is `weight` (n, rank) times `basis` (rank, d)."""

    kind = LowRank.kind
    holds = LowRank
    fields: ClassVar = {"left": "weight", "right": "basis"}

    def __init__(
        self, num_embeddings: int, embedding_dim: int, rank: int, padding_idx: int | None = None, **where: Any
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, **where)
        self.weight = nn.Parameter(torch.zeros(num_embeddings, rank, **where))
        self.basis = nn.Parameter(torch.zeros(rank, embedding_dim, **where))

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return the rank."""
        return {"rank": positive_int(spec, "rank")}

    @classmethod
    def spec_for(cls, factorization: LowRank) -> Spec:
        """Return shape and rank."""
        return {"shape": list(factorization.shape), "rank": factorization.right.shape[0]}

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the factored rows, shape (ids, d), for flat `ids`."""
        return functional.embedding(ids, self.weight) @ self.basis

    def project_factored(self, hidden: Tensor) -> Tensor:
        """Multiply by the transposed factored matrix: (..., d) to (..., n)."""
        return functional.linear(functional.linear(hidden, self.basis), self.weight)

    def shrink(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        self.weight.data = self.weight.data[:rows].clone()

    def grow(self, extra: int) -> None:
        """Add `extra` rows with the mean row's codes."""
        mean = self.weight.mean(0, dtype=torch.float32).to(self.weight.dtype)
        self.weight.data = torch.cat([self.weight.data, mean.expand(extra, -1)])
