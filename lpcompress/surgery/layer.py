"""The handle of one layer of a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import BareWeight, CompressedBareWeight, FactoredMatrix, is_compressed_module, role_of
from lpcompress.surgery.architectures import bare_weights, in_head
from lpcompress.surgery.offloading import in_memory, is_offloaded
from lpcompress.surgery.sizes import stored


@dataclass(frozen=True, eq=False)  # two handles are equal if they are the same one, so that they can be keys
class Layer:
    """A place in a model, and whatever layer stands there now.

    A handle stays valid when the layer is replaced or its tensors move, because it looks at its owner each time.

    Attributes
    ----------
    name : str
        Of the layer in the model, as in `named_modules()`.
    owner : nn.Module
        The module of which the layer, or the bare weight, is an attribute.
    leaf : str
        The name of that attribute.
    equation : str or None
        Of a bare weight: how its model multiplies by it. None for layers that are modules.
    in_body : bool
        Whether it belongs to the model proper, not to a head or a pooler.
    is_word_embedding : bool
        Whether it is the table in which the model looks tokens up.
    """

    name: str
    owner: nn.Module
    leaf: str
    equation: str | None = None
    in_body: bool = True
    is_word_embedding: bool = False

    @property
    def module(self) -> Any:
        """The plain layer, the compressed one, or a `BareWeight` that shows a bare parameter as a layer."""
        found = getattr(self.owner, self.leaf)
        return BareWeight(found, self.equation) if self.equation and isinstance(found, nn.Parameter) else found

    @property
    def holder(self) -> nn.Module:
        """The module that the layer's tensors belong to: the layer itself, for a bare weight its owner."""
        found = getattr(self.owner, self.leaf)
        return found if isinstance(found, nn.Module) else self.owner

    @property
    def role(self) -> str | None:
        """What the layer does with its matrix: embedding, linear or conv. None if it cannot be factored."""
        role = role_of(self.module)
        return role.word if role else None

    @property
    def has_matrix(self) -> bool:
        """Whether it is of a kind that can be factored, and has a weight of its own."""
        return self.role is not None and hasattr(self.module, "weight")

    @property
    def is_compressed(self) -> bool:
        """Whether a compressed layer stands there."""
        return is_compressed_module(self.module)

    @property
    def is_offloaded(self) -> bool:
        """Whether its tensors stay in files."""
        return is_offloaded(self.holder)

    @property
    def padding_idx(self) -> int | None:
        """The row of an embedding that is kept apart and not factored; None if there is none."""
        return getattr(self.module, "padding_idx", None)

    @contextmanager
    def lend(self) -> Iterator[Self]:
        """Have the layer's tensors in memory for a while, even if those of the model stay in files.

        Changes to tensors that stay in files are lost.
        """
        with in_memory(self.holder):
            yield self

    def matrix(self) -> Tensor:
        """Return the weight as a matrix of shape (n, d), its rows being tokens or outputs. It is not a copy.

        Raises
        ------
        LpCompressError
            If the layer has none.
        """
        module = self.module
        return _matrix_role(module).matrix_of(module).detach()

    def matrix_to_fit(self, device: str | torch.device | None = None) -> Tensor:
        """Return the matrix that factors are fitted to, in which the padding row is zero: that row is kept apart.

        Parameters
        ----------
        device : str or torch.device, optional
            Where it shall be; by default where the layer is.

        Returns
        -------
        Tensor of shape (n, d)
            Only to be read: the layer's own weight, unless it has a padding row or is on another device.
        """
        own = self.matrix()
        matrix = own.to(device or own.device)
        if self.padding_idx is None:
            return matrix
        matrix = matrix.clone() if matrix is own else matrix
        matrix[self.padding_idx] = 0
        return matrix

    def inputs_of(self, hidden: Tensor) -> Tensor:
        """Return what the matrix is multiplied by when the plain layer is given `hidden`: (products, d)."""
        module = self.module
        return _matrix_role(module).inputs_of(module, hidden)

    def outputs_of(self, output: Tensor) -> Tensor:
        """Return what the plain layer returns, product by product as its inputs are: (products, n)."""
        module = self.module
        return _matrix_role(module).outputs_of(module, output)

    def stored(self) -> tuple[int, int]:
        """Return the floating-point numbers and the bytes that a checkpoint holds of this layer."""
        return stored(self.module)

    def bytes_beside(self) -> int:
        """Return the bytes that are stored beside the factors once the layer is compressed: a padding row, a bias."""
        matrix = self.matrix()
        if self.padding_idx is not None:
            return matrix.shape[1] * matrix.element_size()
        return self.stored()[1] - matrix.numel() * matrix.element_size()

    def refuse(self) -> None:
        """Raise LpCompressError if no compressed layer can take this one's place."""
        module = self.module
        _matrix_role(module).refuse(module)

    def replace(self, module: nn.Module) -> None:
        """Put `module` in the place of the layer. A bare weight goes back bare."""
        if isinstance(module, BareWeight | CompressedBareWeight):
            delattr(self.owner, self.leaf)  # torch lets no module take the name of a parameter, nor the reverse
        setattr(self.owner, self.leaf, module.weight if isinstance(module, BareWeight) else module)


def _matrix_role(module: nn.Module) -> type[FactoredMatrix]:
    role = role_of(module)
    if role is None:
        raise LpCompressError(f"a {type(module).__name__} has no matrix that can be factored.")
    return role


def layers_of(model: Any) -> dict[str, Layer]:
    """Return a handle for every module below `model` and for every bare weight, by name, in the order of the model.

    This is the one walk through a model: what needs several layers by name takes them from here.

    Parameters
    ----------
    model : nn.Module
    """
    embedding = input_embedding(model)
    alone = getattr(model, "base_model", model) is model
    prefix = "" if alone else f"{model.base_model_prefix}."
    modules: dict[str, nn.Module] = {}
    layers: dict[str, Layer] = {}

    def note(name: str, module: nn.Module | None, equation: str | None = None) -> None:
        parent, _, leaf = name.rpartition(".")
        in_body = name.startswith(prefix) and not in_head(name)
        is_words = module is not None and module is embedding and isinstance(module, nn.Embedding)
        layers[name] = Layer(name, modules[parent], leaf, equation, in_body, is_words)

    for name, module in model.named_modules():
        modules[name] = module
        if name:
            note(name, module)
        for leaf, equation in bare_weights(module).items():
            if isinstance(getattr(module, leaf), nn.Parameter):
                note(f"{name}.{leaf}".lstrip("."), None, equation)
    return layers


def input_embedding(model: Any) -> Any:
    """Return the word embedding of a model; None for models (of images, of sound) that have none."""
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # what transformers raises for models without one
        return None
