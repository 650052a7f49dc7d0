"""A plain layer as a matrix: its entries, its row weights, and what it stores."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from lpcompress import checkpoint, surgery
from lpcompress.errors import LpCompressError
from lpcompress.nn import FactoredMatrix, role_of
from lpcompress.priors import RowWeights
from lpcompress.priors import row_weights as resolve_row_weights

MOST_TENSORS = 6  # that a factored layer has beside one in the place of its weight
ENTRY = 100  # bytes of a tensor's entry in the header of a safetensors file, without the layer's name


def matrix_of(module: nn.Module) -> Tensor:
    """Return the weight of a plain layer as a matrix of shape (n, d), rows being tokens or outputs."""
    return _role_of(module).matrix_of(module).detach()


def inputs_of(module: nn.Module, hidden: Tensor) -> Tensor:
    """Return what the matrix of a plain layer is multiplied by when the layer is given `hidden`: (products, d)."""
    return _role_of(module).inputs_of(module, hidden)


def outputs_of(module: nn.Module, output: Tensor) -> Tensor:
    """Return what a plain layer returns, product by product as its inputs are: (products, n)."""
    return _role_of(module).outputs_of(module, output)


def _role_of(module: nn.Module) -> type[FactoredMatrix]:
    role = role_of(module)
    if role is None:
        raise LpCompressError(f"a {type(module).__name__} has no matrix that can be factored.")
    return role


def bytes_beside(module: nn.Module) -> int:
    """Return the bytes that are stored beside the factors: an embedding's padding row, a bias."""
    matrix = matrix_of(module)
    if getattr(module, "padding_idx", None) is not None:
        return matrix.shape[1] * matrix.element_size()
    return stored(module)[1] - matrix.numel() * matrix.element_size()


def weights_of(
    model: PreTrainedModel, module: nn.Module, wish: str, tokenizer: Any | None, exponent: float
) -> RowWeights:
    """Return the row weights of one layer: the tokenizer speaks of the word embedding alone."""
    if module is not surgery.input_embedding(model):
        return RowWeights(None, "uniform")
    if tokenizer is None and wish == "zipf":
        tokenizer = checkpoint.tokenizer_beside(model)
    return resolve_row_weights(wish, matrix_of(module).shape[0], tokenizer, exponent)


@contextmanager
def row_of_zeros(matrix: Tensor, row: int | None) -> Iterator[None]:
    """Lend `matrix` out with one row blanked, instead of a copy of it."""
    if row is None:
        yield
        return
    kept = matrix[row].clone()
    matrix[row] = 0
    try:
        yield
    finally:
        matrix[row] = kept


def stored(module: nn.Module) -> tuple[int, int]:
    """Return the stored floating-point numbers and the stored bytes of a module."""
    tensors = list(module.state_dict().values())
    numbers = sum(t.numel() for t in tensors if t.is_floating_point())
    return numbers, sum(t.numel() * t.element_size() for t in tensors)


def count_parameters(model: nn.Module) -> int:
    """Return the floating-point numbers that a checkpoint of `model` holds, shared ones once."""
    return sum(tensor.numel() for tensor in distinct(model) if tensor.is_floating_point())


def tensor_bytes(model: nn.Module) -> int:
    """Return the bytes of the tensors that a checkpoint of `model` holds, shared ones once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct(model))


def header_bytes(model: nn.Module, layers: Iterable[str]) -> int:
    """Return a little more than a weight file spends on the list of its tensors, once `layers` are compressed."""
    names = [*model.state_dict(), *(name for name in layers for _ in range(MOST_TENSORS))]
    return sum(len(name) + ENTRY for name in names) + ENTRY


def distinct(model: nn.Module) -> set[Tensor]:
    """Return the tensors that a checkpoint of `model` holds, shared ones once."""
    tied = getattr(model, "all_tied_weights_keys", {})  # which part when a layer has been lent from the disk
    state = model.state_dict(keep_vars=True)
    return {tensor for name, tensor in state.items() if name not in tied}  # by identity: those on `meta` lack addresses
