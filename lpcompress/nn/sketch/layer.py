"""Linear and convolutional layers that hold two sketches of their weight: an architecture to train.

    y = 1/(2l) sum_i (U_1i^T S_1i x + S_2i U_2i x) + b

S_1i and S_2i are trained, the signs U_1i and U_2i follow from the module's seed. They are drawn for every use and
dropped right after, in training too: what stays in memory is what is trained.

References
----------
Kasiviswanathan, Narodytska, Jin, "Network Approximation using Tensor Sketching", IJCAI 2018: SK-FC and SK-CONV.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lpcompress.errors import LpCompressError
from lpcompress.factor.factorization import Factorization
from lpcompress.factor.sketch import INPUTS, OUTPUTS, Sketched, sketch_signs
from lpcompress.nn.checks import require_finite
from lpcompress.nn.sizes import Spec, positive_int, read_shape, size


class SketchedLayer(nn.Module):
    """What sketched layers share; a subclass says what its layer does with a weight.

    `weight` (d_out, l k h w) holds S_2, so that a loader without this package fails on the size; `basis`
    (l k, d_in, h, w) holds S_1 in the form of a kernel. A linear layer has no window.
    """

    kind: ClassVar[str]
    holds: ClassVar[type[Factorization]] = Sketched
    replaces: ClassVar[type[nn.Module]]
    geometry: ClassVar[tuple[str, ...]]  # arguments of the plain layer's constructor, which are its attributes too
    weight: Any  # nn.Parameter, as in the plain layer
    bias: Any
    basis: nn.Parameter
    sketch_size: int
    repetitions: int
    seed: int

    def hold(self, sketch_size: int, repetitions: int, seed: int, where: dict[str, Any]) -> None:
        """Put random sketches and a bias in the place of the plain layer's weight and bias, which are on `meta`."""
        self.sketch_size, self.repetitions, self.seed = sketch_size, repetitions, seed
        outputs, inputs, *window = self.weight.shape
        width = sketch_size * repetitions
        self.weight = nn.Parameter(torch.empty(outputs, width * self.weight[0, 0].numel(), **where))
        self.basis = nn.Parameter(torch.empty(width, inputs, *window, **where))
        if self.bias is not None:
            self.bias = nn.Parameter(torch.empty(outputs, **where))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw sketches and bias from `seed`, so that the weight has the variance that torch gives the plain layer."""
        if not hasattr(self, "basis"):  # torch's constructor calls this before the sketches are there
            return
        generator, bound = torch.Generator().manual_seed(self.seed), self.basis[0].numel() ** -0.5
        for parameter in self.parameters():
            reach = bound if parameter is self.bias else bound * (2 * self.repetitions) ** 0.5
            if not parameter.is_meta:
                parameter.copy_(torch.empty(parameter.shape).uniform_(-reach, reach, generator=generator))

    @classmethod
    def refuse(cls, like: nn.Module) -> None:
        """Raise if `like` is not the plain layer that is replaced."""
        if type(like) is not cls.replaces:
            raise LpCompressError(
                f"the layer must be a plain torch.nn.{cls.replaces.__name__}. Got {type(like).__name__}."
            )
        if getattr(like, "groups", 1) != 1:
            raise LpCompressError(
                f"the convolution must have groups=1. Got groups={like.groups}; it cannot be replaced."
            )

    @classmethod
    def from_spec(cls, spec: Spec, like: Any) -> Self:
        """Build a module of the sizes in `spec`, with the geometry of `like`, on its device and in its dtype."""
        read_shape(spec, (like.weight.shape[0], like.weight[0].numel()))
        sizes = {key: positive_int(spec, key) for key in ("sketch_size", "repetitions")}
        size(sizes["sketch_size"] * sizes["repetitions"], "sketch_size times repetitions")
        where = {"device": like.weight.device, "dtype": like.weight.dtype}
        geometry = {name: getattr(like, name) for name in cls.geometry}
        return cls(**geometry, **sizes, seed=size(spec.get("seed"), "seed"), bias=like.bias is not None, **where)

    @classmethod
    def spec_for(cls, factorization: Sketched) -> Spec:
        """Return the shape of the unfolded weight, k, l and the seed."""
        repetitions = factorization.repetitions
        return {
            "shape": list(factorization.shape),
            "sketch_size": factorization.right.shape[0] // repetitions,
            "repetitions": repetitions,
            "seed": factorization.seed,
        }

    def factorization(self) -> Sketched:
        """Return this module's own tensors (not copies) as a factorization of the unfolded weight."""
        return Sketched(self.weight, self.basis.flatten(1), self.repetitions, self.seed)

    def spec(self) -> Spec:
        """Return the sizes from which `from_spec` rebuilds this module."""
        return {"kind": self.kind, **self.spec_for(self.factorization())}

    @torch.no_grad()
    def fill(self, factorization: Sketched, like: Any, padding_row: Tensor | None = None) -> None:
        """Take over the numbers of `factorization` and the bias of `like`; there is no padding row."""
        self.weight.copy_(factorization.left)
        self.basis.copy_(factorization.right.view_as(self.basis))
        if self.bias is not None:
            self.bias.copy_(like.bias)
        self.train(like.training)

    def dense(self) -> Tensor:
        """Return the weight of the plain layer that this one stands for, in its shape (d_out, d_in, h, w)."""
        return self.factorization().dense().view(self.weight.shape[0], *self.basis.shape[1:])

    def plain(self) -> Any:
        """Return the plain layer that this one stands for."""
        geometry = {name: getattr(self, name) for name in self.geometry}
        plain: Any = self.replaces(**geometry, bias=self.bias is not None, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.dense().detach(), self.weight.requires_grad), self.bias
        return plain.train(self.training)

    def check(self, name: str) -> None:
        """Raise CheckpointError if a sketch is not finite."""
        require_finite(name, self)

    def forward(self, inputs: Tensor) -> Tensor:
        """Do what the plain layer with the weight `dense()` does, without forming it."""
        from_outputs = regenerating(self.combine_signs, self.apply_kernel(inputs, self.basis))
        return from_outputs + self.combine(regenerating(self.apply_signs, inputs), self.weight, self.bias)

    def combine_signs(self, narrow: Tensor) -> Tensor:
        """Apply sum_i U_1i^T / 2l to the l k channels of `narrow`."""
        return self.combine(narrow, self.signs(OUTPUTS, self.basis.shape[0], self.weight.shape[0], narrow).T)

    def apply_signs(self, inputs: Tensor) -> Tensor:
        """Apply U_2 / 2l, which gives l k h w channels."""
        signs = self.signs(INPUTS, self.weight.shape[1], self.basis[0].numel(), inputs)
        return self.apply_kernel(inputs, signs.view(-1, *self.basis.shape[1:]))

    def signs(self, side: int, rows: int, columns: int, like: Tensor) -> Tensor:
        """Return the signs of one side over 2l, shape (rows, columns)."""
        return sketch_signs(rows, columns, self.repetitions, self.seed, side, like) / (2 * self.repetitions)

    def apply_kernel(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Do what the plain layer does with the weight `kernel` and no bias."""
        raise NotImplementedError

    def combine(self, narrow: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply the channels of `narrow` by `matrix` (channels out, channels in)."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the plain layer's sizes and those of the sketches."""
        sketches = f"sketch_size={self.sketch_size}, repetitions={self.repetitions}, seed={self.seed}"
        return f"{super().extra_repr()}, {sketches}"


def regenerating(operation: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Apply an operation that draws signs, keeping `inputs` alone for the backward pass, which draws them again."""
    if not (torch.is_grad_enabled() and inputs.requires_grad):
        return operation(inputs)
    return checkpoint(operation, inputs, use_reentrant=False, preserve_rng_state=False)
