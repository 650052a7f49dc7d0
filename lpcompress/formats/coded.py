"""Coded: integers times a step per row and per coordinate, entropy coded on disk."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, log2
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.errors import CheckpointError
from lpcompress.formats.base import Factorization
from lpcompress.formats.coded_stream import MOST_STEPS, Codes, pack, scale_exponents, unpack
from lpcompress.formats.module import FactoredMatrix, recomputed
from lpcompress.formats.packing import CHUNK
from lpcompress.formats.sizes import Spec, positive_int, size
from lpcompress.progress import Told, unheard

LEVELS = 3  # numbers that say what codes stand for
TILE = 1 << 16  # codes multiplied out at a time where there is no basis, so that what is made of them fits in the cache


@dataclass(frozen=True)
class Coded(Factorization):
    """Row i is the sum over j of level(q_ij) 2^(e_i / 4) scales_j b_j, with integers q, e and b in one stream.

    b_j is a basis vector, or a unit vector without a basis.

    Attributes
    ----------
    scales : Tensor of shape (width,)
        Of each basis vector, or of each column.
    levels : Tensor of shape (3,)
        x, y, z: the code q stands for x q + y min(max(q, -1), 1) + z min(max(q, -2), 2). Codes are rounded towards
        zero more than away from it; this moves them back to the means of what they stand for.
    stream : uint8 Tensor of shape (bytes,)
        See `formats.coded_stream`.
    size : tuple of int
        (n, d).
    has_basis : bool

    Examples
    --------
    >>> import torch
    >>> from lpcompress import factorize
    >>> coded = factorize(torch.randn(256, 64), "coded", ratio=0.9)
    >>> coded.shape, coded.n_bytes <= 0.1 * 256 * 64 * 4
    ((256, 64), True)
    """

    scales: Tensor
    levels: Tensor
    stream: Tensor
    size: tuple[int, int]
    has_basis: bool

    @classmethod
    def of(cls, codes: Codes, scales: Tensor, levels: Tensor, told: Told = unheard) -> "Coded":
        """Encode `codes`; `told` takes the share that is done, the other parameters are those of the class."""
        columns = codes.codes.shape[1] if codes.basis is None else codes.basis.shape[1]
        stream, size = pack(codes, told).to(scales.device), (len(codes.steps), columns)
        made = cls(scales, levels, stream, size, codes.basis is not None)
        made.__dict__["decoded"] = codes
        return made

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return self.scales.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.size

    @property
    def ranks(self) -> list[int]:
        """Number of coordinates, as the only entry."""
        return [self.width]

    @property
    def rows(self) -> list[int]:
        """n, as the only entry."""
        return [self.size[0]]

    @cached_property
    def decoded(self) -> Codes:
        """The integers in the stream.

        Raises
        ------
        CheckpointError
            If the stream is damaged.
        """
        return unpack(self.stream, self.size[0], self.width, self.size[1] if self.has_basis else None)

    def forget(self) -> None:
        """Drop the decoded integers: they are decoded again when needed."""
        self.__dict__.pop("decoded", None)

    def to(self, dtype: torch.dtype) -> "Coded":
        """Return a copy whose floating-point tensors have the given dtype; what is decoded stays so."""
        changed = super().to(dtype)
        changed.__dict__["decoded"] = self.decoded
        return changed

    def scale_rows(self, factors: Tensor) -> "Coded":
        """Return the factorization of the matrix times a number, the same for all rows: `factors` (n,) are equal."""
        changed = replace(self, scales=self.scales * factors[0])
        changed.__dict__["decoded"] = self.decoded
        return changed

    def dense(self) -> Tensor:
        """Return the represented matrix, shape (n, d)."""
        if torch.is_grad_enabled():
            return torch.cat(list(self.dense_parts()))
        whole, start = self.scales.new_empty(self.size), 0
        for part in self.dense_parts():
            whole[start : start + len(part)] = part
            start += len(part)
        return whole

    def dense_parts(self) -> Iterator[Tensor]:
        """Yield the represented matrix, some rows at a time."""
        held, device = self.decoded, self.scales.device
        basis = None if held.basis is None else held.basis.to(device)
        length = CHUNK if basis is not None else max(1, TILE // max(1, self.width))
        for rows, steps in zip(held.codes.split(length), held.steps.split(length), strict=True):
            yield multiplied_out(rows.to(device), steps.to(device), self.levels, self.scales, basis)


def at_levels(codes: Tensor, levels: Tensor) -> Tensor:
    """Return what integer codes stand for, in the dtype of `levels` or float32, whichever is longer.

    Examples
    --------
    >>> at_levels(torch.tensor([0, 1, -2, 5]), torch.tensor([1.0, 0.25, -0.125]))
    tensor([ 0.0000,  1.1250, -2.0000,  5.0000])
    """
    levels = levels.to(torch.promote_types(levels.dtype, torch.float32))
    numbers = codes.to(levels.dtype)
    return numbers * levels[0] + numbers.clamp(-1, 1) * levels[1] + numbers.clamp(-2, 2) * levels[2]


def step_sizes(steps: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 2^(steps / 4)."""
    return torch.exp2(steps.float() / 4).to(dtype)


def multiplied_out(codes: Tensor, steps: Tensor, levels: Tensor, scales: Tensor, basis: Tensor | None) -> Tensor:
    """Return the rows (m, d) that codes (m, width) and steps (m,) stand for; see `Coded`.

    Computed in float32 or better, returned in the dtype of `scales`.
    """
    coordinates = at_levels(codes, levels)
    coordinates = coordinates * step_sizes(steps, coordinates.dtype).unsqueeze(1) * scales
    return (coordinates if basis is None else coordinates @ basis.to(coordinates.dtype)).to(scales.dtype)


class CodedMatrix(FactoredMatrix):
    """Stored as integers in an entropy-coded `stream`, with a scale per coordinate, `scales`, and three `levels`.

    The stream is decoded once, into integers that stay in memory: `codes` (n, width) of one byte as a rule, `steps`
    (n,), and a `basis` (width, d) or none.
    """

    prefix = "Coded"
    format_version = 2
    weight_name = "scales"
    holds = Coded
    fields: ClassVar = {"scales": "scales", "levels": "levels", "stream": "stream"}
    levels: Tensor
    stream: Tensor
    code_bytes: int | None = None  # of one decoded code; known once they were decoded
    codes: Tensor | None
    steps: Tensor | None
    basis: Tensor | None

    def allocate(self, rows: int, columns: int, *, width: int | None, stream: int, **where: Any) -> None:
        """Register scales, levels and stream, all zeros."""
        if width is not None and width > columns:
            raise CheckpointError(f"'width' must be at most {columns}, the number of columns. Got {width}.")
        self.scales = nn.Parameter(torch.zeros(columns if width is None else width, **where))
        self.levels = nn.Parameter(torch.zeros(LEVELS, **where))
        self.register_buffer("stream", torch.zeros(stream, dtype=torch.uint8, device=where.get("device")))
        self.has_basis = width is not None
        self.forget()

    def forget(self) -> None:
        """Drop the decoded integers: they are decoded again when needed."""
        super().forget()
        self.codes = self.steps = self.basis = None

    def bytes_decoded(self) -> int:
        """Return the bytes of the integers; one each as a rule, which is what is taken of a layer kept on disk."""
        if self.code_bytes is None and not self.is_on_disk and self.device.type != "meta":
            self.integers()
        (rows, columns), width = self.matrix_shape, self.scales.shape[0]
        return rows * width * (self.code_bytes or 1) + 2 * rows + (width * columns if self.has_basis else 0)

    def remember(self, held: Codes) -> None:
        """Keep decoded integers in memory; they are no buffers, because loaders would look for them."""
        device = self.scales.device
        self.codes, self.steps = held.codes.to(device), held.steps.to(device)
        self.basis = None if held.basis is None else held.basis.to(device)
        self.code_bytes = held.codes.element_size()

    def share_decoded(self, other: Self) -> None:
        """Give the integers to a layer with the same stream, decoding them if need be; both keep them."""
        if self.codes is None:
            self.remember(self.decode())
        other.codes, other.steps, other.basis = self.codes, self.steps, self.basis
        other.code_bytes = self.code_bytes

    def integers(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return codes, steps and basis, decoded if they are not in memory; a layer kept on disk does not keep them."""
        if self.codes is not None and self.steps is not None:
            return self.codes, self.steps, self.basis
        held = self.decode()
        if not self.is_on_disk:
            self.remember(held)
        device = self.scales.device
        return held.codes.to(device), held.steps.to(device), None if held.basis is None else held.basis.to(device)

    @torch.compiler.disable  # NumPy's work: the compiler would trace every step of it
    def decode(self) -> Codes:
        """Return the integers in the stream."""
        return self.stored().decoded

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(change, recurse)
        for name in ("codes", "steps", "basis"):  # move with the layer
            if getattr(self, name) is not None:
                setattr(self, name, change(getattr(self, name)))
        return self

    def units(self) -> dict[str, float]:
        """Return the size of the scales, and that of a step for the levels: offsets of levels are parts of a step."""
        scales, levels = self.scales.detach().float(), self.levels.detach().float()
        return {"scales": float(scales.square().mean().sqrt()) or 1.0, "levels": float(levels[0].abs()) or 1.0}

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return the width of the basis (None: no basis) and the length of the stream."""
        width = None if spec.get("width", 0) is None else positive_int(spec, "width")
        return {"width": width, "stream": size(spec.get("stream"), "stream")}

    @classmethod
    def sizes_of(cls, factorization: Coded) -> Spec:
        """Return the sizes of `factorization`, as `sizes_in` reads them."""
        width = factorization.width if factorization.has_basis else None
        return {"width": width, "stream": factorization.stream.numel()}

    def stored(self) -> Coded:
        """Return this module's own tensors (not copies) as a factorization that is still to be decoded."""
        return Coded(self.scales, self.levels, self.stream, self.matrix_shape, self.has_basis)

    def sizes(self) -> Spec:
        """Return the sizes of this module, as `sizes_in` reads them, without decoding it."""
        return self.sizes_of(self.stored())

    def factorization(self) -> Coded:
        """Return this module's own tensors (not copies) as a factorization."""
        made = self.stored()
        codes, steps, basis = self.integers()
        made.__dict__["decoded"] = Codes(codes, steps, steps, steps, basis)
        return made

    @torch.no_grad()
    def fill(self, factorization: Coded, like: nn.Module) -> None:  # type: ignore[override]
        """Copy tensors and decoded integers of `factorization`, and all else from the plain layer `like`."""
        super().fill(factorization, like)
        self.remember(factorization.decoded)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.forget()
        self.code_bytes = None

    @property
    def right(self) -> Tensor | None:
        """Basis vectors times their scales, shape (width, d); None if there is no basis."""
        return self.integers()[2] * self.scales.unsqueeze(1) if self.has_basis else None  # type: ignore[operator]

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the rows `ids` (ids,) of the matrix, shape (ids, d)."""
        codes, steps, basis = self.integers()
        rows = codes.index_select(0, ids), steps.index_select(0, ids)
        return multiplied_out(*rows, self.levels, self.scales, basis)

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map coordinates (..., width) to (..., n), `CHUNK` rows of the codes at a time, and add `bias` (n,)."""
        codes, steps, basis = self.integers()
        if basis is None:
            coordinates = coordinates * self.scales

        def part(codes: Tensor, coordinates: Tensor) -> Tensor:
            return functional.linear(coordinates, at_levels(codes, self.levels).to(coordinates.dtype))

        # recomputed, so that the levels are not kept for the backward pass
        parts = [recomputed(part, some, coordinates) for some in codes.split(CHUNK)]
        products = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        products = products * step_sizes(steps, products.dtype)
        return products if bias is None else products + bias

    def check(self, name: str) -> None:
        """Raise CheckpointError if a number is not finite or the stream is damaged; decode it."""
        super().check(name)
        try:
            self.remember(self.stored().decoded)
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from None

    def shrink(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        held = self.stored().decoded
        self.encode(replace(held, codes=held.codes[:rows], steps=held.steps[:rows], rows=held.rows[:rows]))

    def grow(self, extra: int, mean_row: Tensor) -> None:
        """Append `extra` copies of the mean row, in the finest step in which its codes are no longer than others."""
        held, right = self.stored().decoded, self.right
        if right is None:
            coordinates = mean_row / self.scales.float()
        else:
            coordinates = torch.linalg.lstsq(right.float().T, mean_row.unsqueeze(-1)).solution.squeeze(-1)
        numbers = (coordinates / self.levels[0].float()).double().cpu()
        room = float(numbers.abs().max()) / torch.iinfo(held.codes.dtype).max
        step = min(max(ceil(4 * log2(room)) if room else 0, -MOST_STEPS), MOST_STEPS)
        codes = (numbers / 2 ** (step / 4)).round_()
        relative = codes.square() / torch.exp2(held.columns.double() / 2)
        self.encode(
            replace(
                held,
                codes=torch.cat([held.codes, codes.to(held.codes.dtype).expand(extra, -1)]),
                steps=torch.cat([held.steps, held.steps.new_full((extra,), step)]),
                rows=torch.cat([held.rows, scale_exponents(relative.mean()).expand(extra)]),
            )
        )

    def encode(self, held: Codes) -> None:
        """Replace the stream and the decoded integers."""
        self.stream = pack(held).to(self.scales.device)
        self.remember(held)
