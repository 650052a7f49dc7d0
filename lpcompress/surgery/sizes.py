"""Sizes of modules and models, in a checkpoint and in memory: stored numbers and bytes."""

from collections.abc import Mapping

from torch import Tensor, nn

from lpcompress.nn import ResidentMatrix
from lpcompress.nn.residence import DEFAULT


def stored(module: nn.Module) -> tuple[int, int]:
    """Return how many floating-point numbers, and how many bytes, a checkpoint stores for a module."""
    tensors = list(module.state_dict().values())
    numbers = sum(t.numel() for t in tensors if t.is_floating_point())
    return numbers, sum(t.numel() * t.element_size() for t in tensors)


def count_parameters(model: nn.Module) -> int:
    """Return how many floating-point numbers a checkpoint of `model` stores, counting tied tensors once."""
    return sum(tensor.numel() for tensor in distinct(model) if tensor.is_floating_point())


def tensor_bytes(model: nn.Module) -> int:
    """Return the bytes of the tensors that a checkpoint of `model` stores, counting tied tensors once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct(model))


def bytes_in_memory(model: nn.Module, known: Mapping[str, int]) -> int:
    """Return the bytes of the tensors of `model` once it is loaded, in the default resident form.

    Parameters
    ----------
    model : PreTrainedModel
    known : mapping of str to int
        Names of compressed layers -> their bytes in memory. Those of other layers are estimated if they are not there.
    """
    layers = {name: each for name, each in model.named_modules() if isinstance(each, ResidentMatrix)}
    kept = sum(known.get(name, each.bytes_in_memory(DEFAULT)) - stored(each)[1] for name, each in layers.items())
    return tensor_bytes(model) + kept


def distinct(model: nn.Module) -> set[Tensor]:
    """Return the tensors that a checkpoint of `model` stores, tied tensors once."""
    tied = getattr(model, "all_tied_weights_keys", {})  # tied tensors differ once a layer was loaded from disk
    state = model.state_dict(keep_vars=True)
    return {tensor for name, tensor in state.items() if name not in tied}  # by identity: `meta` has no addresses
