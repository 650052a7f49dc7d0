"""Embeddings that multiply the rows that they look up by a constant, as those of BART and Gemma do."""

import copy
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.errors import CheckpointError, LpCompressError

WIDTH = 3  # of the rows to try a layer with: a factor for each column of the true width does not fit them


@dataclass(frozen=True)
class Scale:
    """The constant, and how a model multiplies by it.

    Attributes
    ----------
    factor : float
    rounded : bool
        Whether the factor is rounded to the dtype of the rows before the product (Gemma), not only the product (BART).
        In half precision the two differ.

    Examples
    --------
    >>> row = torch.tensor([11.0], dtype=torch.bfloat16)
    >>> Scale(768**0.5, rounded=False)(row).item(), Scale(768**0.5, rounded=True)(row).item()
    (304.0, 306.0)
    """

    factor: float
    rounded: bool

    @classmethod
    def from_spec(cls, spec: Any) -> "Scale | None":
        """Return the scale that `config.json` gives, None if it gives none; raise CheckpointError if it is not one."""
        if spec is None:
            return None
        match spec:
            case {"factor": float(factor), "rounded": bool(rounded)} if isfinite(factor):
                return cls(factor, rounded)
        raise CheckpointError(f"'scale' must be a finite 'factor' and whether it is 'rounded'. Got {spec!r}.")

    def spec(self) -> dict[str, Any]:
        """Return what `from_spec` reads."""
        return asdict(self)

    def __call__(self, rows: Tensor) -> Tensor:
        """Multiply rows, of any shape, in their dtype."""
        return rows * (torch.tensor(self.factor, dtype=rows.dtype) if self.rounded else self.factor)


class ScaledEmbedding(nn.Embedding):
    """A plain embedding that multiplies its rows by a constant.

    It takes the place of a model's own class where a compressed embedding is multiplied out.
    """

    def __init__(self, *args: Any, scale: Scale, **options: Any) -> None:
        super().__init__(*args, **options)
        self.scale = scale

    def forward(self, ids: Tensor) -> Tensor:
        """Look up rows: `ids` of any shape to (*ids.shape, d)."""
        return self.scale(super().forward(ids))


def plain_embedding(*args: Any, scale: Scale | None, **options: Any) -> nn.Embedding:
    """Return a plain embedding; the arguments are those of `nn.Embedding`."""
    return nn.Embedding(*args, **options) if scale is None else ScaledEmbedding(*args, scale=scale, **options)


def is_knowable(like: nn.Embedding) -> bool:
    """Return whether `scale_of` can say what a plain embedding does: a factor in a buffer is missing while loading."""
    return not any(buffer.is_meta for buffer in like.buffers())


def scale_of(like: nn.Embedding) -> Scale | None:
    """Return the constant by which a plain embedding multiplies its rows; None if it only looks them up.

    A class that overrides `forward` is tried with drawn rows, all tokens once. What it does must be a product with one
    constant, equal to the bit in the dtype of the layer, and in the less precise ones in which it may be loaded later.

    Raises
    ------
    LpCompressError
        If `forward` does something else.

    Examples
    --------
    >>> from transformers.models.bart.modeling_bart import BartScaledWordEmbedding
    >>> scale_of(BartScaledWordEmbedding(50, 16, 1, embed_scale=4.0))
    Scale(factor=4.0, rounded=False)
    >>> scale_of(nn.Embedding(50, 16)) is None
    True
    """
    if type(like).forward is nn.Embedding.forward:
        return None
    own = like.weight.dtype
    dtypes = [own] if own.itemsize == 2 else [own, torch.float16, torch.bfloat16]
    if like.state_dict(keep_vars=True).keys() == {"weight"}:  # else forward may use the other tensors
        with torch.device("cpu"):  # models are built on `meta` while they load
            trials = [found for dtype in dtypes if (found := _tried(like, dtype))]
            candidates = _candidates(like) if len(trials) == len(dtypes) else []
            for scale in (Scale(factor, rounded) for factor in candidates for rounded in (False, True)):
                if all(torch.equal(scale(rows), scaled) for rows, scaled in trials):
                    return scale if scale.factor != 1 else None
    raise LpCompressError(
        "the layer must be a plain torch.nn.Embedding, or multiply its rows by a constant. Got"
        f" {type(like).__name__}, which overrides forward with something else and cannot be replaced."
    )


def _candidates(like: nn.Embedding) -> list[float]:
    """Return the constants that a layer may multiply by: its own numbers, and what becomes of 1.

    The former come first: the buffer that Gemma makes of such a number is rounded in a half-precision model.
    """
    trial = _tried(like, torch.float64, ones=True)
    own = [value for value in vars(like).values() if type(value) is float]
    return [*own, *([] if trial is None else [float(trial[1].flatten()[0])])]


def _tried(like: nn.Embedding, dtype: torch.dtype, ones: bool = False) -> tuple[Tensor, Tensor] | None:
    """Return rows of drawn numbers and what the forward of `like` makes of them, (1, n, WIDTH) each; None if it fails.

    The rows are drawn, or ones. The layer's own may be on disk, or not be loaded yet.
    """
    generator, n = torch.Generator().manual_seed(0), like.weight.shape[0]
    drawn = torch.randn(n, WIDTH, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.ones_like(drawn) if ones else drawn
    ids = torch.randperm(n, generator=generator).unsqueeze(0)  # not in order: position embeddings are
    trial = copy.copy(like)
    trial._parameters = {"weight": nn.Parameter(weight, requires_grad=False)}
    trial._buffers = {name: buffer.cpu() for name, buffer in like._buffers.items() if buffer is not None}
    try:
        with torch.no_grad():
            found = type(like).forward(trial, ids)  # of the class: hooks of accelerate would bring the true weight
    except Exception:  # model code raises anything at all
        return None
    rows = functional.embedding(ids, weight)
    same = isinstance(found, Tensor) and found.shape == rows.shape and found.dtype == rows.dtype
    return (rows, found) if same else None
