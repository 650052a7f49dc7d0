"""A matrix held as two sketches of it by random signs: an architecture to train.

    y = 1/(2l) sum_i (U_1i^T S_1i x + S_2i U_2i x) + b

S_1i and S_2i are trained, the signs U_1i and U_2i follow from the module's seed. They are drawn for every use and
dropped right after, in training too: what stays in memory is what is trained.

References
----------
Kasiviswanathan, Narodytska, Jin, "Network Approximation using Tensor Sketching", IJCAI 2018: SK-FC and SK-CONV.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.factor.sketch import INPUTS, OUTPUTS, Sketched, sketch_signs
from lpcompress.nn.matrix import FactoredMatrix, recomputed, window_of
from lpcompress.nn.sizes import Spec, positive_int, size


class SketchedMatrix(FactoredMatrix):
    """`weight` (n, l k h w) holds the sketches S_2 and `basis` (l k, d) the sketches S_1, h x w being the window.

    Parameters
    ----------
    sketch_size : int
        k, rows of one sketch.
    repetitions : int, default=1
        l, sketches whose mean is taken.
    seed : int
        Of signs and initial values, 0 to 2^40. Give every layer of a network its own.
    """

    holds = Sketched
    fields: ClassVar = {"left": "weight", "right": "basis"}
    basis: Tensor

    def allocate(self, rows: int, columns: int, *, sketch_size: int, repetitions: int, seed: int, **where: Any) -> None:
        """Register both sketches."""
        self.sketch_size, self.repetitions, self.seed = sketch_size, repetitions, seed
        width = sketch_size * repetitions
        self.weight = nn.Parameter(torch.zeros(rows, width * window_of(self), **where))
        self.basis = nn.Parameter(torch.zeros(width, columns, **where))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw sketches and bias from `seed`, so that the weight has the variance that torch gives the plain layer."""
        if not hasattr(self, "basis"):  # torch's constructor calls this before the sketches are there
            return
        generator, bound = torch.Generator().manual_seed(self.seed), self.basis.shape[1] ** -0.5
        for name, parameter in self.named_parameters():
            reach = bound if name == "bias" else bound * (2 * self.repetitions) ** 0.5
            if not parameter.is_meta:
                parameter.copy_(torch.empty(parameter.shape).uniform_(-reach, reach, generator=generator))

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return k, l and the seed."""
        sizes = {key: positive_int(spec, key) for key in ("sketch_size", "repetitions")}
        size(sizes["sketch_size"] * sizes["repetitions"], "sketch_size times repetitions")
        return {**sizes, "seed": size(spec.get("seed"), "seed")}

    @classmethod
    def sizes_of(cls, factorization: Sketched) -> Spec:
        """Return k, l and the seed."""
        repetitions = factorization.repetitions
        size_of_one = factorization.right.shape[0] // repetitions
        return {"sketch_size": size_of_one, "repetitions": repetitions, "seed": factorization.seed}

    def factorization(self) -> Sketched:
        """Return this module's own tensors (not copies) as a factorization."""
        return Sketched(self.weight, self.basis, self.repetitions, self.seed)

    @property
    def right(self) -> None:
        """None: half of the basis are signs, which cannot be changed."""
        return None

    def project(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Do what the matrix does, without forming it or keeping signs for the backward pass."""
        from_outputs = recomputed(self.combine_signs, self.analyse(hidden, self.basis))
        return from_outputs + functional.linear(recomputed(self.apply_signs, hidden), self.weight, bias)

    def combine_signs(self, narrow: Tensor) -> Tensor:
        """Apply sum_i U_1i^T / 2l: (..., l k) to (..., n)."""
        return functional.linear(narrow, self.signs(OUTPUTS, self.basis.shape[0], self.matrix_shape[0], narrow).T)

    def apply_signs(self, hidden: Tensor) -> Tensor:
        """Apply U_2 / 2l, which gives l k h w coordinates."""
        return self.analyse(hidden, self.signs(INPUTS, self.weight.shape[1], self.matrix_shape[1], hidden))

    def signs(self, side: int, rows: int, columns: int, like: Tensor) -> Tensor:
        """Return the signs of one side over 2l, shape (rows, columns)."""
        return sketch_signs(rows, columns, self.repetitions, self.seed, side, like) / (2 * self.repetitions)
