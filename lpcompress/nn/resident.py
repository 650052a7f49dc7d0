"""What a compressed layer keeps in memory besides what is stored: its matrix multiplied out, or rounded to bytes."""

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from lpcompress.formats.module import FactoredMatrix
from lpcompress.nn import int8
from lpcompress.nn.residence import DEFAULT, DENSE, FASTER, INT8, RESIDENCES, STORED, keeps_decoded, known

HELD = ("held", "held_scales", "held_operator", "held_state", "chosen")


class Source(NamedTuple):
    """A tensor that a matrix in memory was made from, as it was then.

    `kept` shares its memory, which therefore cannot become that of another tensor. `version` is -1 for a tensor that
    does not count its changes.
    """

    place: dict[str, Any]
    name: str
    tensor: Tensor
    kept: Tensor
    address: int
    version: int


State = list[Source]


class ResidentMatrix(FactoredMatrix):
    """Base of the roles: chooses how a layer computes, and keeps what that needs.

    The choice, `residence`, is one of `RESIDENCES` and is stored nowhere. A matrix is kept in evaluation only, and is
    made again as soon as a tensor of the layer has changed. A layer whose tensors are kept on disk keeps nothing.

    Attributes
    ----------
    residence : str
        Name of the resident form.
    multiplies : bool
        Whether the layer multiplies by its matrix; an embedding looks rows up, unless a head is tied to it.
    rounds : bool
        Set by the role: whether it has products of 8-bit integers.
    """

    residence: str = DEFAULT
    multiplies: bool = True
    rounds: ClassVar[bool] = False
    held: Tensor | None = None  # the matrix (n, d), or what int8.Rounded calls `packed`
    held_scales: Tensor | None = None
    held_operator: int8.Operator | None = None
    held_state: State | None = None  # of the layer's tensors when that was made
    chosen: str | None = None  # `way`, once it was looked up

    def reside(self, name: str) -> None:
        """Change the resident form to `name`, one of `RESIDENCES`; takes effect with the next call."""
        self.residence = known(name, "resident")
        self.let_go()

    def way(self, resident: str | None = None) -> str:
        """Return how the layer computes in evaluation, in a resident form or its own: `STORED`, `DENSE` or `INT8`."""
        residence = RESIDENCES[resident or self.residence]
        way = residence.products if self.multiplies else residence.look_ups
        if way == INT8 and not self._operator():
            way = FASTER
        if way == FASTER:
            worth = self.worth_multiplying and self.products_as_stored() <= self.worth_multiplying
            way = STORED if worth else DENSE
        if way == STORED and self.bytes_decoded() >= self.bytes_of_matrix():
            way = DENSE  # integers would save nothing
        return way

    def products_as_stored(self) -> float:
        """Return the multiplications that an input takes by the factors, as a share of those by the matrix."""
        rows, columns = self.matrix_shape
        return self.factorization().n_parameters / (rows * columns)

    def in_memory(self, inputs: Tensor | None = None) -> Tensor | None:
        """Return the matrix (n, d), or what `int8` packs, if the layer computes by it now; else None.

        Gradients of the matrix reach the tensors that it was made from.

        Parameters
        ----------
        inputs : Tensor, optional
            What the layer is called with; products of 8-bit integers have no gradients.
        """
        if self.training or self.chosen == STORED or self.is_on_disk:
            return None
        if torch.compiler.is_compiling():  # no state can be compared there
            return None if self._wants_gradients() and not torch.compiler.is_exporting() else self.held
        if self.held is None or not self._is_current():
            self.settle()
        if not torch.is_grad_enabled() or self.held is None:
            return self.held
        if self.held_scales is not None and (self._wants_gradients() or (inputs is not None and inputs.requires_grad)):
            _say_without_gradients()
            return None
        if not self._wants_gradients():
            return self.held
        return _Kept.apply(self, self.held, *present(self._parameters))

    @torch.no_grad()
    def settle(self) -> None:
        """Make what the layer keeps in its resident form, and free what it then does not need."""
        self.let_go()
        if self.is_on_disk and not (self.needs_rows and keeps_decoded()):
            self.forget()
        if self.is_on_disk or self.device.type == "meta":
            return
        self.chosen = self.way()
        if self.chosen == STORED:
            return
        made, operator = self.matrix(), self._operator() if self.chosen == INT8 else None
        self.forget()
        if operator:
            rounded = int8.rounded(made, operator)
            made, self.held_scales, self.held_operator = rounded.packed, rounded.scales, operator
        self.held, self.held_state = made, self._state()

    def let_go(self) -> None:
        """Drop the matrix in memory."""
        self.held = self.held_scales = self.held_operator = self.held_state = self.chosen = None

    def bytes_of_matrix(self) -> int:
        """Return the bytes of the matrix, multiplied out."""
        rows, columns = self.matrix_shape
        return rows * columns * self.dtype.itemsize

    def bytes_in_memory(self, resident: str | None = None) -> int:
        """Return the bytes that the layer takes in memory in a resident form or its own, whether or not it was used."""
        rows, columns = self.matrix_shape
        stored = sum(t.numel() * t.element_size() for t in self.state_dict().values())
        kept = {
            STORED: self.bytes_decoded(),
            DENSE: self.bytes_of_matrix(),
            INT8: rows * (columns + torch.float32.itemsize),
        }
        return stored + kept[self.way(resident)]

    def multiply(self, hidden: Tensor, held: Tensor, bias: Tensor | None) -> Tensor:
        """Map (..., d) to (..., n) by what `in_memory` returned, and add `bias` (n,)."""
        if self.held_scales is None or self.held_operator is None:
            return torch.nn.functional.linear(hidden, held, bias)
        return int8.multiply(hidden, held, self.held_scales, bias, self.held_operator)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; training computes with what is stored."""
        if mode:
            self.let_go()
        return super().train(mode)

    def forget(self) -> None:
        """Drop everything that is not stored."""
        super().forget()
        self.let_go()

    def weight_in_memory(self) -> Tensor:
        """Return the plain layer's weight, as `dense` does, but not multiplied out again if the matrix is in memory."""
        held = self.in_memory()
        return self.dense() if held is None or self.held_scales is not None else self.arranged(held)

    def _wants_gradients(self) -> bool:
        return torch.is_grad_enabled() and any(p.requires_grad for p in present(self._parameters))

    def _operator(self) -> int8.Operator | None:
        """Return the product of 8-bit integers of this layer; None if its role or its device has none."""
        return int8.operator_on(self.device.type) if self.rounds else None

    def _state(self) -> State:
        """Return the layer's tensors, where they lie, and how often they were changed."""
        return [
            Source(place, name, tensor, tensor.detach(), tensor.data_ptr(), _version(tensor))
            for place in (self._parameters, self._buffers)
            for name, tensor in place.items()
            if tensor is not None
        ]

    def _is_current(self) -> bool:
        """Return whether all tensors are as they were when the matrix was made; every call of the layer asks."""
        return self.held_state is not None and all(
            place.get(name) is tensor and tensor.data_ptr() == address and (version < 0 or tensor._version == version)
            for place, name, tensor, _, address, version in self.held_state
        )

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        held, rounded, dtype = self.held, self.held_scales is not None, self.dtype
        current = held is not None and self._is_current()
        self.let_go()
        super()._apply(change, recurse)
        if held is None or not current:
            return self
        if self.dtype != dtype or rounded:
            self.settle()  # as in a layer that was loaded with that dtype and device
        else:
            self.held, self.held_state, self.chosen = change(held), self._state(), self.way()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.let_go()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: without the matrix in memory."""
        return {**self.__dict__, **dict.fromkeys(HELD)}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that keeps its matrix in memory too, unless it is one that an operator packed."""
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        if self.held is not None and self.held_scales is None and self._is_current():
            made.held, made.held_state, made.chosen = self.held.clone(), made._state(), self.chosen
        return made


class _Kept(torch.autograd.Function):
    """A matrix in memory, whose gradient goes to the tensors that it was made from."""

    @staticmethod
    def forward(ctx: Any, layer: ResidentMatrix, held: Tensor, *sources: Tensor) -> Tensor:
        ctx.layer, ctx.sources = layer, sources
        return held.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        wanted = [each for each in ctx.sources if each.requires_grad]
        with torch.enable_grad():
            found = iter(torch.autograd.grad(ctx.layer.matrix(), wanted, gradients, allow_unused=True))
        return None, None, *(next(found) if each.requires_grad else None for each in ctx.sources)


def present(tensors: Mapping[str, Tensor | None]) -> list[Tensor]:
    """Return those of a module's own parameters or buffers that it has."""
    return [each for each in tensors.values() if each is not None]


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place; -1 for one made in inference mode, which does not count that."""
    return -1 if tensor.is_inference() else tensor._version


@cache
def _say_without_gradients() -> None:
    warnings.warn(
        "layers with the resident form int8 compute with their codes while gradients are recorded, which is slow:"
        " run the model under torch.no_grad() or torch.inference_mode().",
        stacklevel=2,
    )
