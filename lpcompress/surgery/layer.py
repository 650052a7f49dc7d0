"""`Layer`: a handle on one layer of a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import (
    BareWeight,
    CompressedBareWeight,
    FactoredMatrix,
    Tied,
    accept_stored_names,
    is_compressed_module,
    role_of,
)
from lpcompress.surgery.architectures import bare_weights, in_head
from lpcompress.surgery.offloading import in_memory, is_offloaded, is_read_anew
from lpcompress.surgery.sizes import stored


@dataclass(frozen=True, eq=False)  # compared by identity, so that handles can be dictionary keys
class Layer:
    """A handle on a layer of a model, identified by its position rather than by its module.

    The handle stays valid when the layer is replaced or its tensors move, because it reads the owner's attribute on
    each access.

    Attributes
    ----------
    name : str
        Name of the layer, as in `named_modules()`.
    owner : nn.Module
        Module that has the layer, or the bare weight, as an attribute.
    leaf : str
        Name of that attribute.
    equation : str or None
        For a bare weight, the `torch.einsum` equation in which its model multiplies by it. None for modules.
    in_body : bool
        Whether the layer belongs to the base model, not to a head or a pooler.
    is_word_embedding : bool
        Whether the layer is the model's input embedding.
    """

    name: str
    owner: nn.Module
    leaf: str
    equation: str | None = None
    in_body: bool = True
    is_word_embedding: bool = False

    @property
    def module(self) -> Any:
        """The plain or compressed layer; a bare parameter is wrapped in a `BareWeight`."""
        found = getattr(self.owner, self.leaf)
        if self.equation and isinstance(found, nn.Parameter):
            return BareWeight(found, self.equation).train(self.owner.training)
        return found

    @property
    def holder(self) -> nn.Module:
        """The module that holds the layer's tensors: the layer itself, or the owner of a bare weight."""
        found = getattr(self.owner, self.leaf)
        return found if isinstance(found, nn.Module) else self.owner

    @property
    def role(self) -> str | None:
        """How the layer uses its matrix: embedding, linear or conv. None if it cannot be factored."""
        role = role_of(self.module)
        return role.word if role else None

    @property
    def has_matrix(self) -> bool:
        """Whether the layer has a role that can be factored, and its own weight."""
        return self.role is not None and not isinstance(self.module, Tied)

    @property
    def is_compressed(self) -> bool:
        """Whether the layer is compressed now."""
        return is_compressed_module(self.module)

    @property
    def is_offloaded(self) -> bool:
        """Whether the layer's tensors are kept on disk."""
        return is_offloaded(self.holder)

    @property
    def padding_idx(self) -> int | None:
        """Index of the embedding row that is stored separately and not factored; None if there is none."""
        return getattr(self.module, "padding_idx", None)

    @contextmanager
    def lend(self) -> Iterator[Self]:
        """Load the layer's tensors into memory while the block runs, if they are kept on disk.

        Changes to tensors that are kept on disk are lost.
        """
        with in_memory(self.holder):
            yield self

    def matrix(self) -> Tensor:
        """Return the weight as a matrix of shape (n, d) whose rows are tokens or outputs, without copying it.

        Raises
        ------
        LpCompressError
            If the layer has no matrix.
        """
        module = self.module
        return _matrix_role(module).matrix_of(module).detach()

    def matrix_to_fit(self, device: str | torch.device | None = None) -> Tensor:
        """Return the matrix to fit factors to. Its padding row is zero, because that row is stored separately.

        Parameters
        ----------
        device : str or torch.device, optional
            Device of the result; by default that of the layer.

        Returns
        -------
        Tensor of shape (n, d)
            Must not be written to: it is the layer's own weight, unless it was moved or its padding row was zeroed. If
            the layer is lent from a file, its padding row is zero until it is lent again, because nothing was copied.
        """
        own = self.matrix()
        matrix = own.to(device or own.device)
        if self.padding_idx is None or not matrix[self.padding_idx].any():
            return matrix
        if matrix is own and not is_read_anew(self.holder, "weight"):
            matrix = matrix.clone()
        matrix[self.padding_idx] = 0
        return matrix

    def inputs_of(self, hidden: Tensor) -> Tensor:
        """Return the vectors that the plain layer multiplies by its matrix for the input `hidden`: (products, d)."""
        module = self.module
        return _matrix_role(module).inputs_of(module, hidden)

    def outputs_of(self, output: Tensor) -> Tensor:
        """Return the plain layer's `output` as one row per product, in the order of `inputs_of`: (products, n)."""
        module = self.module
        return _matrix_role(module).outputs_of(module, output)

    def stored(self) -> tuple[int, int]:
        """Return how many floating-point numbers, and how many bytes, a checkpoint stores for this layer."""
        return stored(self.module)

    def bytes_beside(self) -> int:
        """Return the bytes stored besides the factors once the layer is compressed: the padding row or the bias."""
        matrix = self.matrix()
        if self.padding_idx is not None:
            return matrix.shape[1] * matrix.element_size()
        return self.stored()[1] - matrix.numel() * matrix.element_size()

    def refuse(self) -> None:
        """Raise LpCompressError if the layer cannot be replaced by a compressed one."""
        module = self.module
        _matrix_role(module).refuse(module)

    def refuse_not_finite(self) -> None:
        """Raise LpCompressError if a tensor of the layer has a value that is not finite.

        That includes the padding row and the bias, which no fit sees, but which would be written.
        """
        with self.lend():
            for leaf, tensor in self.module.named_parameters(recurse=False):
                place = _first_not_finite(tensor.detach())
                if place is not None:
                    raise LpCompressError(
                        f"{self.name}: {leaf} has values that are not finite (NaN or infinity), the first at index"
                        f" {place}. The checkpoint is damaged: get another copy, or choose layers without this one."
                    )

    def replace(self, module: nn.Module) -> None:
        """Replace the layer by `module`. A `BareWeight` is stored as a bare parameter again."""
        if isinstance(module, BareWeight | CompressedBareWeight):
            delattr(self.owner, self.leaf)  # torch does not let a module replace a parameter, or the reverse
        if isinstance(module, CompressedBareWeight):
            self.owner.register_load_state_dict_pre_hook(accept_stored_names)
        setattr(self.owner, self.leaf, module.weight if isinstance(module, BareWeight) else module)


def _first_not_finite(tensor: Tensor) -> int | None:
    """Return the first index of the first entry that is NaN or infinite; None if all are finite."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return None
    if tensor.dtype.itemsize == 1:  # torch has no extrema of 8-bit floats
        tensor = tensor.float()
    if bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all()):  # one pass; propagates NaN
        return None
    return int((~torch.isfinite(tensor)).nonzero()[0, 0])


def _matrix_role(module: nn.Module) -> type[FactoredMatrix]:
    role = role_of(module)
    if role is None:
        raise LpCompressError(f"a {type(module).__name__} has no matrix that can be factored.")
    return role


def layers_of(model: Any) -> dict[str, Layer]:
    """Return a handle for every submodule and every bare weight of `model`, by name, in model order.

    This is the only traversal of a model: code that needs several layers by name calls it.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    dict of str to Layer
    """
    embedding = input_embedding(model)
    modules: dict[str, nn.Module] = {}
    layers: dict[str, Layer] = {}

    def add(name: str, module: nn.Module | None, equation: str | None = None) -> None:
        parent, _, leaf = name.rpartition(".")
        is_words = module is not None and module is embedding and isinstance(module, nn.Embedding)
        layers[name] = Layer(name, modules[parent], leaf, equation, in_body(name, model), is_words)

    for name, module in model.named_modules():
        modules[name] = module
        if name:
            add(name, module)
        for leaf, equation in bare_weights(module).items():
            if isinstance(getattr(module, leaf), nn.Parameter):
                add(f"{name}.{leaf}".lstrip("."), None, equation)
    return layers


def in_body(name: str, model: Any) -> bool:
    """Return whether the layer or weight `name` belongs to the base model, not to a head or a pooler."""
    alone = getattr(model, "base_model", model) is model
    return (alone or name.startswith(f"{model.base_model_prefix}.")) and not in_head(name)


def input_embedding(model: Any) -> Any:
    """Return the word embedding of a model; None for models without one (images, audio)."""
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # what transformers raises for models without one
        return None
