"""Sketched: a matrix given by random sketches of it from both sides, an architecture to train.

    y = 1/(2l) sum_i (U_1i^T S_1i x + S_2i U_2i x) + b

S_1i and S_2i are trained; the signs U_1i and U_2i follow from the module's seed. Signs are drawn for each use and
discarded right after, also in training, so that only the trained tensors stay in memory.

References
----------
Kasiviswanathan, Narodytska, Jin, "Network Approximation using Tensor Sketching", IJCAI 2018: SK-FC and SK-CONV.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.formats.base import Factorization
from lpcompress.formats.module import FactoredMatrix, recomputed, window_of
from lpcompress.formats.signs import refuse_seed, sign_matrix
from lpcompress.formats.sizes import Spec, positive_int, size

OUTPUTS, INPUTS = 0, 1  # the two sides of a matrix, and the streams of their signs


@dataclass(frozen=True)
class Sketched(Factorization):
    """A = 1/(2l) sum_i (U_1i^T S_1i + S_2i U_2i); entries of U_1i and U_2i are +1 or -1 over sqrt(number of rows).

    Attributes
    ----------
    left : Tensor of shape (n, l * k * patch)
        S_21 to S_2l, side by side; `patch` is h * w for a convolution's window, else 1.
    right : Tensor of shape (l * k, d)
        S_11 to S_1l, stacked.
    repetitions : int
        l. The size k of a sketch follows from the shapes.
    seed : int
        Seed of the signs, which are drawn when needed and never stored.

    References
    ----------
    Kasiviswanathan, Narodytska, Jin, "Network Approximation using Tensor Sketching", IJCAI 2018.

    Examples
    --------
    >>> import torch
    >>> sketch = Sketched(left=torch.randn(6, 2), right=torch.randn(2, 4), repetitions=1, seed=0)
    >>> sketch.shape, sketch.n_parameters
    ((6, 4), 20)
    >>> first, second = sketch.signs()
    >>> first.shape, second.shape
    (torch.Size([2, 6]), torch.Size([2, 4]))
    """

    left: Tensor
    right: Tensor
    repetitions: int
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def ranks(self) -> list[int]:
        """Upper bound of the rank of the matrix, as the only entry."""
        return [self.left.shape[1] + self.right.shape[0]]

    @property
    def rows(self) -> list[int]:
        """n, as the only entry."""
        return [self.left.shape[0]]

    def signs(self) -> tuple[Tensor, Tensor]:
        """Return U_1 of shape (l * k, n) and U_2 of shape (l * k * patch, d)."""
        sizes = (self.right.shape[0], self.shape[0]), (self.left.shape[1], self.shape[1])
        first, second = (
            sketch_signs(*size, self.repetitions, self.seed, side, self.left)
            for side, size in zip((OUTPUTS, INPUTS), sizes, strict=True)
        )
        return first, second

    def dense(self) -> Tensor:
        """Return the represented matrix, shape (n, d): draw the signs and multiply out."""
        first, second = self.signs()
        return (first.T @ self.right + self.left @ second) / (2 * self.repetitions)


def sketch_signs(rows: int, columns: int, repetitions: int, seed: int, side: int, like: Tensor) -> Tensor:
    """Return the signs U_1 to U_l of one side, stacked and scaled so that E[U_i^T U_i] = I.

    Parameters
    ----------
    rows : int
        Total over all `repetitions` sketches.
    columns : int
        Size of the side: n or d.
    repetitions, seed : int
    side : int
        `OUTPUTS` or `INPUTS`.
    like : Tensor
        Device and dtype of the result.
    """
    return sign_matrix(rows, columns, seed, side, like) / (rows // repetitions) ** 0.5


class SketchedMatrix(FactoredMatrix):
    """Stored as two sketches by random signs, `codes` (n, l k h w) and `basis` (l k, d), to be trained.

    In the notation of the paper these are S_2 and S_1; h w is the size of a convolution's window, 1 for a linear layer.

    Parameters
    ----------
    sketch_size : int
        k, rows of one sketch.
    repetitions : int, default=1
        l, number of sketches that are averaged.
    seed : int
        Seed of signs and initial values, 0 to 2^40. Give each layer of a network a different one.
    """

    prefix = "Sketched"
    holds = Sketched
    fields: ClassVar = {"left": "codes", "right": "basis"}
    looks_rows_up = False  # the signs mix all rows
    basis: Tensor

    def allocate(self, rows: int, columns: int, *, sketch_size: int, repetitions: int, seed: int, **where: Any) -> None:
        """Register sketches of zeros."""
        refuse_seed(seed)
        self.sketch_size, self.repetitions, self.seed = sketch_size, repetitions, seed
        width = sketch_size * repetitions
        self.codes = nn.Parameter(torch.zeros(rows, width * window_of(self), **where))
        self.basis = nn.Parameter(torch.zeros(width, columns, **where))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw sketches and bias from the seed; the matrix has the variance that torch gives the plain layer.

        Does nothing on `meta`, or before the sketches are registered: torch's constructor calls this method.
        """
        if "codes" not in self._parameters or self.codes.is_meta:
            return
        generator, bound = torch.Generator().manual_seed(self.seed), self.basis.shape[1] ** -0.5
        for name, parameter in self.named_parameters():
            reach = bound if name == "bias" else bound * (2 * self.repetitions) ** 0.5
            parameter.copy_(torch.empty(parameter.shape).uniform_(-reach, reach, generator=generator))

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return k, l and the seed in `spec`."""
        sizes = {key: positive_int(spec, key) for key in ("sketch_size", "repetitions")}
        size(sizes["sketch_size"] * sizes["repetitions"], "sketch_size times repetitions")
        return {**sizes, "seed": size(spec.get("seed"), "seed")}

    @classmethod
    def sizes_of(cls, factorization: Sketched) -> Spec:
        """Return k, l and the seed of `factorization`."""
        repetitions = factorization.repetitions
        size_of_one = factorization.right.shape[0] // repetitions
        return {"sketch_size": size_of_one, "repetitions": repetitions, "seed": factorization.seed}

    def factorization(self) -> Sketched:
        """Return this module's own tensors (not copies) as a factorization."""
        return Sketched(self.codes, self.basis, self.repetitions, self.seed)

    @property
    def right(self) -> None:
        """None: half of the basis vectors are signs, which cannot be changed."""
        return None

    def project(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (..., d) to (..., n) and add `bias` (n,); matrix and signs are not kept for the backward pass."""
        from_outputs = recomputed(self.combine_signs, self.analyse(hidden, self.basis))
        return from_outputs + functional.linear(recomputed(self.apply_signs, hidden), self.codes, bias)

    def combine_signs(self, narrow: Tensor) -> Tensor:
        """Map (..., l k) to (..., n): apply sum_i U_1i^T / 2l."""
        return functional.linear(narrow, self.signs(OUTPUTS, self.basis.shape[0], self.matrix_shape[0], narrow).T)

    def apply_signs(self, hidden: Tensor) -> Tensor:
        """Map (..., d) to (..., l k h w): apply U_2 / 2l."""
        return self.analyse(hidden, self.signs(INPUTS, self.codes.shape[1], self.matrix_shape[1], hidden))

    def signs(self, side: int, rows: int, columns: int, like: Tensor) -> Tensor:
        """Return the signs of one side divided by 2l, shape (rows, columns)."""
        return sketch_signs(rows, columns, self.repetitions, self.seed, side, like) / (2 * self.repetitions)
