"""Products of 8-bit integers: a matrix rounded once, inputs rounded as they come.

Each row of the matrix and each input vector has a scale of its own, so that the product with one input does not depend
on the others in its batch. torch has several operators for this, none of them on every machine: the first that gives
right results is taken.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

MOST = 127
ZERO = 128  # of unsigned inputs
ERROR = 0.02  # of a working operator on random numbers, at most; a saturating one is much farther off
SIDE, FEWEST = 8, 17  # of `_int_mm` on CUDA: sides of the matrix are multiples of one, inputs at least the other
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Operator:
    """A product of 8-bit integers.

    Attributes
    ----------
    name : str
    pack : callable (Tensor) -> Tensor
        Prepare the int8 matrix (n, d) for `multiply`.
    multiply : callable (Tensor, Tensor, Tensor) -> Tensor
        Map int8 inputs (m, d), the packed matrix and its scales (n,) to float32 (m, n).
    """

    name: str
    pack: Callable[[Tensor], Tensor]
    multiply: Callable[[Tensor, Tensor, Tensor], Tensor]


def _by_onednn(numbers: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return _not_compiled(numbers, packed, scales)
    shifted = numbers.view(torch.uint8) + ZERO  # modulo 256; a cast to int8 before is faster than one to uint8 after
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    rest: Any = (None, 1.0, 0, torch.float32, "none", [], "")  # no bias, float32 outputs, nothing after the product
    return torch.ops.onednn.qlinear_pointwise(shifted, 1.0, ZERO, packed, scales, zeros, *rest)


@torch.library.custom_op("lpcompress::by_onednn", mutates_args=())
def _not_compiled(numbers: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """Hide the operator from inductor, which fails unless `packed` is a constant of the graph."""
    return _by_onednn(numbers, packed, scales)


@_not_compiled.register_fake
def _(numbers: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    return scales.new_empty(len(numbers), len(scales))


def _padded(numbers: Tensor, rows: int, columns: int) -> Tensor:
    """Return a matrix with so many rows and columns of zeros added."""
    return functional.pad(numbers, (0, columns, 0, rows)) if rows or columns else numbers.contiguous()


def _by_int_mm(numbers: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    padded = _padded(numbers, max(0, FEWEST - len(numbers)), packed.shape[1] - numbers.shape[1])
    products = torch._int_mm(padded, packed.T)
    return products[: len(numbers), : len(scales)].float().mul_(scales)


OPERATORS = (
    Operator("onednn.qlinear_pointwise", lambda rounded: torch.ops.onednn.qlinear_prepack(rounded, None), _by_onednn),
    Operator("_int_mm", lambda rounded: _padded(rounded, *(-side % SIDE for side in rounded.shape)), _by_int_mm),
)
"""Fastest first: .3 and .35 to .7 of the time in float32, for the layers of BERT and 2,048 tokens."""


@dataclass(frozen=True)
class Rounded:
    """A matrix (n, d) as one byte an entry.

    Attributes
    ----------
    packed : Tensor
        As the operator wants it.
    scales : float32 Tensor of shape (n,)
    """

    packed: Tensor
    scales: Tensor


def rounded(matrix: Tensor, operator: Operator) -> Rounded:
    """Round a matrix (n, d), each row to multiples of its largest entry over 127.

    Examples
    --------
    >>> rounded(torch.tensor([[1.0, -0.5], [0.0, 0.0]]), OPERATORS[1]).packed[:2, :2]  # zeros beyond
    tensor([[127, -64],
            [  0,   0]], dtype=torch.int8)
    """
    numbers, scales = whole(matrix)
    return Rounded(operator.pack(numbers), scales.squeeze(-1))


def whole(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the int8 numbers (m, d), from -127 to 127, and the scales (m, 1) of the vectors (m, d)."""
    vectors = vectors.float()
    # two passes, as `abs` would make a copy, and `vector_norm` and `aminmax` take ten times as long
    largest = torch.maximum(vectors.amax(-1, keepdim=True), vectors.amin(-1, keepdim=True).neg_())
    scales = largest.div_(MOST).clamp_min_(TINY)
    return (vectors / scales).round_().to(torch.int8), scales


def multiply(hidden: Tensor, packed: Tensor, scales: Tensor, bias: Tensor | None, operator: Operator) -> Tensor:
    """Map (..., d) to (..., n): multiply by a `Rounded` matrix and add `bias` (n,)."""
    numbers, own = whole(hidden.reshape(-1, hidden.shape[-1]))
    products = operator.multiply(numbers, packed, scales).mul_(own)  # each pass over the memory counts
    if bias is not None:
        products += bias
    return products.to(hidden.dtype).view(*hidden.shape[:-1], len(scales))


@cache
def operator_on(device: str) -> Operator | None:
    """Return the fastest operator that works on a type of device, `cpu` for example; None, and a warning, if none does.

    Warns
    -----
    UserWarning
        Once, if none does.
    """
    found = next((each for each in OPERATORS if _works(each, device)), None)
    if found is None:
        warnings.warn(
            f"torch {torch.__version__} has no product of 8-bit integers on {device} here: layers with the resident"
            " form int8 compute with their dense matrices instead.",
            stacklevel=2,
        )
    return found


@torch.no_grad()
def _works(operator: Operator, device: str) -> bool:
    """Return whether an operator gives right products here, of large numbers too: some processors saturate."""
    matrix = torch.linspace(-1, 1, 64 * 64, device=device).view(64, 64).sign()
    inputs = torch.ones(32, 64, device=device)
    try:
        held = rounded(matrix, operator)
        found = multiply(inputs, held.packed, held.scales, None, operator)
    except (RuntimeError, AttributeError, NotImplementedError):  # not compiled in, or called otherwise
        return False
    expected = inputs @ matrix.T
    return float((found - expected).abs().max()) <= ERROR * float(expected.abs().max())
