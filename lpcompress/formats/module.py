"""Base class of all compressed layers.

A compressed layer combines a *form* with a *role*. The form defines how a matrix is stored and multiplied: one file
here and one row in `formats.FORMATS`. The role defines what the plain layer does with its matrix: one file in
`lpcompress.nn` and one row in `nn.registry.ROLES`. The registry derives one class for each pair.
"""

from collections.abc import Callable
from math import prod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lpcompress.errors import CheckpointError
from lpcompress.formats.base import Factorization
from lpcompress.formats.readable import ReadableWeight, refuse_writing
from lpcompress.formats.sizes import Spec


class FactoredMatrix(nn.Module):
    """A layer that stores its matrix of shape (n, d) as a factorization and computes with the factors.

    Attributes
    ----------
    kind : str
        Form and role, as written to `config.json`.
    prefix : str
        Set by the form: start of the names of its classes.
    holds : type of Factorization
        Set by the form: its container.
    fields : dict of str to str
        Set by the form: field of the container -> name of the tensor in the module.
    weight_name : str
        Set by the form: name in the module of a floating-point tensor that a checkpoint stores as `weight`, so that a
        loader without this package fails on its size instead of running a layer of random numbers.
    format_version : int
        Set by the form: first version of the checkpoint format that has it.
    worth_multiplying : float
        Set by the form: products by the factors are faster than by the matrix if they take at most this share of its
        multiplications; 0 if never.
    looks_rows_up : bool
        Set by the form: whether single rows can be read (`look_up`), dropped and appended (`shrink`, `grow`).
    word : str
        Set by the role: its name in `--layers` and in reports.
    noun : str
        Set by the role: the noun for such a layer in messages.
    suffix : str
        Set by the role: end of `kind`.
    needs_rows : bool
        Set by the role: whether it reads single rows; such a role has no class for forms that cannot.
    replaces : tuple of type
        Set by the role: the plain layer types that it replaces.

    Examples
    --------
    >>> from lpcompress.nn import build
    >>> layer = build({"kind": "low_rank_linear", "shape": [6, 4], "rank": 2}, like=nn.Linear(4, 6))
    >>> layer.kind, layer.matrix_shape, layer.factorization().ranks
    ('low_rank_linear', (6, 4), [2])
    """

    kind: ClassVar[str]
    prefix: ClassVar[str]
    holds: ClassVar[type[Factorization]]
    fields: ClassVar[dict[str, str]]
    format_version: ClassVar[int] = 1
    looks_rows_up: ClassVar[bool] = True
    word: ClassVar[str]
    noun: ClassVar[str]
    suffix: ClassVar[str]
    needs_rows: ClassVar[bool] = False
    replaces: ClassVar[tuple[type[nn.Module], ...]]
    weight_name: ClassVar[str] = "codes"
    worth_multiplying: ClassVar[float] = 0.0

    # defined by the role

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(n, d)."""
        raise NotImplementedError

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the plain layer's weight."""
        return self.matrix_shape

    @staticmethod
    def refuse(like: nn.Module) -> None:
        """Raise LpCompressError if `like` does more than multiply by its matrix: a replacement would drop the rest."""
        raise NotImplementedError

    @staticmethod
    def matrix_of(like: Any) -> Tensor:
        """Return the weight of a plain layer as a matrix of shape (n, d): a view, not a copy."""
        raise NotImplementedError

    @staticmethod
    def inputs_of(like: Any, hidden: Tensor) -> Tensor:
        """Return the vectors that a plain layer multiplies by its matrix when called with `hidden`: (products, d)."""
        raise NotImplementedError

    @staticmethod
    def outputs_of(like: Any, output: Tensor) -> Tensor:
        """Return the products in the `output` of a plain layer, in the order of `inputs_of`: (products, n)."""
        return output.flatten(0, -2)

    @classmethod
    def spec_beside(cls, like: Any) -> Spec:
        """Return the entries that the spec of a replacement of `like` needs besides the sizes of the factors."""
        return {}

    @classmethod
    def from_spec(cls, spec: Spec, like: Any) -> Self:
        """Build an empty module of the sizes in `spec`, on the device and in the dtype of `like`."""
        raise NotImplementedError

    def keep(self, like: Any) -> None:
        """Copy what the plain layer `like` has besides its matrix: a bias, a padding row."""
        raise NotImplementedError

    def arranged(self, matrix: Tensor) -> Tensor:
        """Return `matrix` (n, d) in the shape of the plain layer's weight: the inverse of `matrix_of`."""
        return matrix

    def plain(self) -> Any:
        """Return the plain layer that this one replaces, with the factors multiplied out."""
        raise NotImplementedError

    # defined by the form

    def allocate(self, *shape: Any, **sizes: Any) -> None:
        """Register tensors of zeros for a matrix of `shape` (rows, columns)."""
        raise NotImplementedError

    @classmethod
    def sizes_in(cls, spec: Spec) -> dict[str, Any]:
        """Return the keyword arguments of `allocate`, read from `spec` and checked.

        Raises
        ------
        CheckpointError
            If a size is missing or invalid. All are checked, because `config.json` is untrusted.
        """
        raise NotImplementedError

    def sizes(self) -> Spec:
        """Return the sizes of this module, as `sizes_in` reads them."""
        return self.sizes_of(self.factorization())

    @classmethod
    def sizes_of(cls, factorization: Any) -> Spec:
        """Return the sizes of a module that holds `factorization`, as `sizes_in` reads them."""
        raise NotImplementedError

    @property
    def right(self) -> Tensor | None:
        """All basis vectors, shape (width, d); None if there is no basis and codes are the entries themselves."""
        raise NotImplementedError

    def expand(self, coordinates: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map coordinates (..., width) to (..., n): multiply by the transposed codes and add `bias` (n,)."""
        raise NotImplementedError

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the rows `ids` (ids,) of the matrix, shape (ids, d)."""
        raise NotImplementedError

    def shrink(self, rows: int) -> None:
        """Drop all but the first `rows` rows, in place."""
        raise NotImplementedError

    def grow(self, extra: int, mean_row: Tensor) -> None:
        """Append `extra` rows, each an approximation of `mean_row` (d,) in this form, in place."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop everything that is not stored."""

    def bytes_decoded(self) -> int:
        """Return the bytes in memory of what is decoded from the stored tensors."""
        return 0

    def share_decoded(self, other: Self) -> None:
        """Keep what is decoded from the stored tensors, here and in a layer with equal ones, until both `forget` it."""

    def units(self) -> dict[str, float]:
        """Return the typical size of each parameter that a learning rate for weights is far too large for, by name."""
        return {}

    # derived from these

    @property
    def is_on_disk(self) -> bool:
        """Whether a hook of accelerate brings the tensors for each call, and takes them away afterwards."""
        hook = self.__dict__.get("_hf_hook")
        return hook is not None and any(getattr(each, "offload", False) for each in getattr(hook, "hooks", (hook,)))

    def matrix(self) -> Tensor:
        """Return the represented matrix (n, d)."""
        return self.factorization().dense()

    def dense(self) -> Tensor:
        """Return the weight of the plain layer that this one replaces, in that layer's shape, multiplied out."""
        return self.arranged(self.matrix())

    def weight_in_memory(self) -> Tensor:
        """Return what `dense` does, for code that only reads it."""
        return self.dense()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the plain layer's weight."""
        return self.get_parameter(self.weight_name).dtype

    @property
    def device(self) -> torch.device:
        """The device of the layer's tensors."""
        return self.get_parameter(self.weight_name).device

    @property
    def weight(self) -> Tensor:
        """The plain layer's weight, for code that reads it outside the layer; multiplied out when it is used."""
        if self.weight_name not in self._parameters:  # not yet allocated: torch is building the plain layer
            raise AttributeError("weight")
        return self.weight_in_memory() if torch.compiler.is_compiling() else ReadableWeight(self)

    @weight.setter
    def weight(self, value: Any) -> None:
        refuse_writing()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; refuse to set `weight` to a parameter, before torch finds that the name is taken."""
        if name == "weight" and self.weight_name in self._parameters:
            refuse_writing()
        super().__setattr__(name, value)

    @classmethod
    def stored_name(cls, layer: str, leaf: str) -> str:
        """Return the name in a checkpoint of the tensor `leaf` of the layer named `layer`."""
        return f"{layer}.{'weight' if leaf == cls.weight_name else leaf}".lstrip(".")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load tensors by their names in the module or, for `load_state_dict` of a file, in a checkpoint."""
        accept_stored_name(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def factorization(self) -> Factorization:
        """Return this module's own tensors (not copies) as a factorization."""
        return self.holds(**{field: getattr(self, name) for field, name in self.fields.items()})

    def spec(self) -> Spec:
        """Return the kind and the sizes, from which `nn.build` builds an empty copy; JSON-serializable."""
        return {"kind": self.kind, "shape": list(self.matrix_shape), **self.sizes()}

    @torch.no_grad()
    def fill(self, factorization: Factorization, like: nn.Module) -> None:
        """Copy the tensors of `factorization`, and all else and the training mode from the plain layer `like`."""
        for field, tensor in factorization.tensors().items():
            getattr(self, self.fields[field]).copy_(tensor)
        self.keep(like)
        self.train(like.training)

    def project(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (..., d) to (..., n): multiply by the transposed matrix and add `bias` (n,)."""
        right = self.right
        return self.expand(hidden if right is None else self.analyse(hidden, right), bias)

    def analyse(self, hidden: Tensor, basis: Tensor) -> Tensor:
        """Map (..., d) to coordinates (..., width): multiply by the transposed `basis` (width, d)."""
        return functional.linear(hidden, basis)

    def row_ids(self) -> Tensor:
        """Return the numbers of all rows, 0 to n - 1."""
        return torch.arange(self.matrix_shape[0], device=self.device)

    def check(self, name: str) -> None:
        """Raise CheckpointError if the tensors are damaged: not finite, or (in a form with an index) inconsistent.

        Parameters
        ----------
        name : str
            Name of the layer in its model, for the message.
        """
        for leaf, tensor in self.state_dict(keep_vars=True).items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"{self.stored_name(name, leaf)} holds values that are not finite: the checkpoint is damaged."
                    " Compress the model again."
                )

    def require(self, condition: Tensor | bool, name: str, what: str) -> None:
        """Raise CheckpointError unless `condition` holds; `what` states it in the message."""
        if not bool(condition):
            raise CheckpointError(f"{name}: {what}. The checkpoint is damaged; compress the model again.")

    def extra_repr(self) -> str:
        """Return the spec, for `repr`."""
        return ", ".join(f"{key}={value}" for key, value in self.spec().items() if value is not None)


def accept_stored_name(layer: FactoredMatrix, state_dict: dict[str, Any], prefix: str) -> None:
    """Rename the `weight` of `layer` in `state_dict` from its name in a checkpoint to its name in the module."""
    stored = layer.stored_name(prefix.removesuffix("."), layer.weight_name)
    if stored in state_dict:
        state_dict[f"{prefix}{layer.weight_name}"] = state_dict.pop(stored)


def window_of(layer: nn.Module) -> int:
    """Return the number of positions in a convolution's window; 1 for other layers.

    Examples
    --------
    >>> window_of(nn.Conv2d(3, 8, kernel_size=(3, 2))), window_of(nn.Linear(3, 8))
    (6, 1)
    """
    return prod(getattr(layer, "kernel_size", ()))


def recomputed(operation: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Apply `operation`, recomputing its intermediate results in the backward pass instead of keeping them.

    `operation` must not draw random numbers.
    """
    if not torch.is_grad_enabled():
        return operation(*inputs)
    return checkpoint(operation, *inputs, use_reentrant=False, preserve_rng_state=False)
