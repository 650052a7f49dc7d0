"""What modules and models take up in a checkpoint, in numbers and in bytes."""

from collections.abc import Iterable

from torch import Tensor, nn

MOST_TENSORS = 6  # that a factored layer has beside one in the place of its weight
ENTRY = 100  # bytes of a tensor's entry in the header of a safetensors file, without the layer's name


def stored(module: nn.Module) -> tuple[int, int]:
    """Return the floating-point numbers and the bytes that a checkpoint holds of a module."""
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
