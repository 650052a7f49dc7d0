"""The embedding role: drop-in replacements of `nn.Embedding`."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.formats.sizes import Spec, read_shape
from lpcompress.nn.resident import ResidentMatrix
from lpcompress.nn.scale import Scale, is_knowable, plain_embedding, scale_of


class CompressedEmbedding(ResidentMatrix, nn.Embedding):
    """Embedding whose matrix (tokens, width) is stored as a factorization.

    `num_embeddings` and `embedding_dim` are those of the plain layer. If there is a `padding_idx`, the buffer
    `padding_row` (width,) holds that row unchanged and overrides the factored one. A `scale` multiplies the rows that
    are looked up, but not the matrix itself, which a tied head uses as it is.

    Examples
    --------
    >>> from lpcompress.nn import build
    >>> plain = nn.Embedding(50, 8, padding_idx=0)
    >>> layer = build({"kind": "low_rank", "shape": [50, 8], "rank": 2, "padding_idx": 0}, like=plain)
    >>> layer(torch.tensor([[3, 1, 0]])).shape
    torch.Size([1, 3, 8])
    """

    word, noun, suffix = "embedding", "embedding", ""
    needs_rows = True
    multiplies = False  # until a head is tied to it
    replaces = (nn.Embedding,)
    padding_row: Tensor | None

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        scale: Scale | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **sizes: Any,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, device="meta")
        del self.weight  # the plain layer's weight, which takes no memory on `meta`
        self.scale = scale
        padding_row = None if padding_idx is None else torch.zeros(embedding_dim, device=device, dtype=dtype)
        self.register_buffer("padding_row", padding_row)
        self.allocate(num_embeddings, embedding_dim, **sizes, device=device, dtype=dtype)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(tokens, width)."""
        return self.num_embeddings, self.embedding_dim

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise LpCompressError if `like` does more than look up rows and multiply them by a constant."""
        if not isinstance(like, nn.Embedding) or isinstance(like, CompressedEmbedding):
            raise LpCompressError(f"the layer must be a plain torch.nn.Embedding. Got {type(like).__name__}.")
        if is_knowable(like):
            scale_of(like)
        if like.max_norm is not None or like.sparse:
            raise LpCompressError(
                f"the embedding must have max_norm=None and sparse=False. Got max_norm={like.max_norm},"
                f" sparse={like.sparse}; it cannot be replaced."
            )

    @staticmethod
    def matrix_of(like: nn.Embedding) -> Tensor:
        """Return the weight."""
        return like.weight

    @classmethod
    def spec_beside(cls, like: nn.Embedding) -> Spec:
        """Return the index of the padding row, and the constant that multiplies rows if there is one."""
        scale = like.scale if isinstance(like, CompressedEmbedding) else scale_of(like)
        return {"padding_idx": like.padding_idx} | ({"scale": scale.spec()} if scale else {})

    @classmethod
    def from_spec(cls, spec: Spec, like: nn.Embedding) -> Self:
        """Build an empty module of the sizes in `spec`, on the device and in the dtype of `like`."""
        rows, columns = read_shape(spec, (like.num_embeddings, like.embedding_dim))
        padding_idx = spec.get("padding_idx")
        if padding_idx is not None and not (type(padding_idx) is int and 0 <= padding_idx < rows):
            raise CheckpointError(f"'padding_idx' must be null or in 0..{rows - 1}. Got {padding_idx!r}.")
        scale = Scale.from_spec(spec.get("scale"))
        if is_knowable(like) and scale != (expected := scale_of(like)):
            raise CheckpointError(f"'scale' must be that of the model's layer, {expected}. Got {scale}.")
        where: dict[str, Any] = {"device": like.weight.device, "dtype": like.weight.dtype}
        return cls(rows, columns, padding_idx=padding_idx, scale=scale, **cls.sizes_in(spec), **where)

    def spec(self) -> Spec:
        """Return kind, sizes, and what `spec_beside` gives."""
        return {**super().spec(), **self.spec_beside(self)}

    def keep(self, like: nn.Embedding) -> None:
        """Copy the padding row."""
        if self.padding_row is not None:
            self.padding_row.copy_(like.weight[self.padding_idx])

    def forward(self, ids: Tensor, *, project: bool = False, scaled: bool = True) -> Tensor:
        """Look up rows, or multiply by the transposed matrix.

        Parameters
        ----------
        ids : integer Tensor of any shape
            With `project`, hidden states of shape (..., d) instead.
        project : bool, default=False
            Multiply by the transposed matrix instead. A tied head calls its embedding this way, because the hooks that
            bring offloaded weights to the device run with `forward`.
        scaled : bool, default=True
            Multiply the rows by `scale`. A tied embedding has a scale of its own.

        Returns
        -------
        Tensor of shape (*ids.shape, d), or (..., n) with `project`
        """
        held = self.in_memory(ids)
        if project:
            return self.logits(ids) if held is None else self.multiply(ids, held, None)
        rows = self.rows_of(ids) if held is None else functional.embedding(ids, held)
        return self.scale(rows) if self.scale and scaled else rows

    def rows_of(self, ids: Tensor) -> Tensor:
        """Return the rows `ids` (any shape) of the represented matrix, as they are stored, shape (*ids.shape, d)."""
        rows = self.look_up(ids.reshape(-1)).view(*ids.shape, self.embedding_dim)
        if self.padding_row is None:
            return rows
        return torch.where(self.is_padding(ids).unsqueeze(-1), self.padding_row, rows)

    def is_padding(self, ids: Tensor) -> Tensor:
        """Return which of `ids` are the padding token: bool of the shape of `ids`."""
        return ids.eq(self.padding_idx)  # type: ignore[arg-type]

    def logits(self, hidden: Tensor) -> Tensor:
        """Multiply by the transposed matrix: (..., d) to (..., n)."""
        logits = self.project(hidden)
        if self.padding_row is None:
            return logits
        padding = self.is_padding(self.row_ids())  # (n,)
        return torch.where(padding, (hidden @ self.padding_row).unsqueeze(-1), logits)

    def matrix(self) -> Tensor:
        """Return the represented matrix (n, d), with the padding row."""
        matrix = super().matrix()
        if self.padding_row is not None:
            matrix[self.padding_idx] = self.padding_row
        return matrix

    def plain(self) -> nn.Embedding:
        """Return the plain layer that this one replaces, with the factors multiplied out."""
        shape, weight = self.matrix_shape, self.dense().detach()
        return plain_embedding(*shape, padding_idx=self.padding_idx, _weight=weight, scale=self.scale)

    @torch.no_grad()
    def resize(self, num_embeddings: int) -> None:
        """Drop the last rows, or append approximations of the mean row, in place.

        Raises
        ------
        LpCompressError
            If `num_embeddings` is less than 1.
        """
        if num_embeddings < 1:
            raise LpCompressError(f"an embedding must keep at least one row. Got {num_embeddings}.")
        if num_embeddings < self.num_embeddings:
            self.shrink(num_embeddings)
        elif num_embeddings > self.num_embeddings:
            self.grow(num_embeddings - self.num_embeddings, self.mean_row())
        self.num_embeddings = num_embeddings
        self.let_go()
        if self.padding_idx is not None and self.padding_idx >= num_embeddings:
            self.padding_idx = self.padding_row = None

    def mean_row(self) -> Tensor:
        """Return the mean of the factored rows in float32, shape (d,)."""
        sums = [self.look_up(ids).sum(0, dtype=torch.float32) for ids in self.row_ids().split(8192)]
        return torch.stack(sums).sum(0) / self.num_embeddings
