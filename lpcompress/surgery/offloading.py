"""Models whose tensors are kept on disk and read one layer at a time, by accelerate's hooks.

transformers loads such a model with `device_map={"": "disk"}` and saves it shard by shard. This module loads the
tensors of one module into memory temporarily, and moves the tensors of new modules to disk.
"""

import ctypes
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lpcompress.atomic import ScratchDirectory
from lpcompress.errors import CheckpointError
from lpcompress.formats.module import FactoredMatrix

ON_DISK = {"": "disk"}
"""The `device_map` that keeps every tensor on disk."""


def is_offloaded(module: nn.Module) -> bool:
    """Return whether the tensors of one module (not of its children) are kept on disk."""
    from accelerate.utils import has_offloaded_params

    return has_offloaded_params(module)


def keeps_on_disk(model: nn.Module) -> bool:
    """Return whether any tensor of `model` is kept on disk."""
    return any(map(is_offloaded, model.modules()))


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a module itself, not a child, adds to a checkpoint."""
    found: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    passing = module._non_persistent_buffers_set
    return found | {key: value for key, value in module.named_buffers(recurse=False) if key not in passing}


@contextmanager
def in_memory(module: nn.Module) -> Iterator[None]:
    """Load the tensors of `module` into memory while the block runs; changes are lost if they are kept on disk."""
    from accelerate.utils import align_module_device

    with align_module_device(module):
        yield


@contextmanager
def all_in_memory(model: nn.Module) -> Iterator[None]:
    """Load all tensors of `model` into memory while the block runs, in which it runs as if they had never left it."""
    from accelerate.hooks import ModelHook

    with ExitStack() as stack:
        for module in filter(is_offloaded, model.modules()):
            stack.enter_context(in_memory(module))
            stack.callback(setattr, module, "_hf_hook", module._hf_hook)
            module._hf_hook = ModelHook()  # does nothing, where the other would unload what it has used
        yield


@contextmanager
def editable(module: nn.Module) -> Iterator[None]:
    """Load the tensors of `module` into memory while the block runs, and keep changes to them."""
    with in_memory(module):
        yield
        changed = module.state_dict()
    if is_offloaded(module):
        offload(module, changed)


def offload(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Move the tensors of `module`, whose values are `tensors`, to a file that is deleted with the module."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module
    from accelerate.utils import OffloadedWeightsLoader

    if isinstance(module, FactoredMatrix):
        module.forget()
    return_memory()  # of the work before; this function is called after each layer
    scratch = ScratchDirectory()
    file = scratch.path / "tensors.safetensors"
    save_tensors(tensors, file)
    index = {name: {"safetensors_file": str(file), "weight_name": name} for name in tensors}
    loader: Any = OffloadedWeightsLoader(index=index)
    loader.scratch = scratch
    add_hook_to_module(module, AlignDevicesHook("cpu", offload=True, offload_buffers=True, weights_map=loader))


def return_memory() -> None:
    """Give freed memory back to the system, which glibc would keep: after a hundred layers, as much as they took."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:  # musl has none
        trim(0)


def save_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """Write tensors, contiguous or not, to a temporary safetensors file.

    Raises
    ------
    CheckpointError
        If the file cannot be written, for example because the disk is full.
    """
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    except (OSError, SafetensorError) as error:  # safetensors raises its own error on a full disk
        raise CheckpointError(
            f"{tempfile.gettempdir()} cannot hold the temporary files: {error}. Free some space there, or set TMPDIR to"
            " a directory with room for the compressed layers."
        ) from error


@contextmanager
def quiet_offloading() -> Iterator[None]:
    """Silence the messages of accelerate and transformers about offloaded tensors: here offloading is intended."""
    logger = logging.getLogger("accelerate.big_modeling")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attempting to save a model with offloaded modules")
            yield
    finally:
        logger.setLevel(level)


def share_files(model: Any) -> None:
    """Let tied tensors be read by any of their names: a checkpoint may hold them under only one.

    transformers gives a tensor that is read from a file only the name of its own in that file, and, for some files,
    those that are tied to it.
    """
    offloaded = next(filter(is_offloaded, model.modules()), None)
    index: dict[str, Any] = offloaded._hf_hook.weights_map.dataset.index if offloaded else {}  # the same in all
    pairs = list(getattr(model, "all_tied_weights_keys", {}).items())
    for one, other in pairs * len(pairs):  # the name that is stored may be the partner of a partner
        if (one in index) != (other in index):
            known, new = (one, other) if one in index else (other, one)
            index[new] = index[known]


def stored_tensor(module: Any, name: str) -> Tensor:
    """Return a tensor of `module`, memory-mapped from its file if it is kept on disk."""
    tensor = module.state_dict()[name]
    return module._hf_hook.weights_map[name] if tensor.is_meta else tensor


def is_read_anew(module: Any, name: str) -> bool:
    """Return whether a tensor of `module` is mapped or read from a safetensors file each time that it is lent.

    What is written to it then changes neither the file nor what is lent later, and takes the memory of one page.
    """
    tensors = _files_of(module)
    key, files = f"{getattr(tensors, 'prefix', '')}{name}", getattr(tensors, "dataset", tensors)
    entry = {} if key in getattr(files, "state_dict", ()) else getattr(files, "index", {}).get(key, {})
    return "safetensors_file" in entry


def change_stored_dtype(module: Any, name: str, dtype: torch.dtype) -> None:
    """Convert a parameter of `module` that is kept on disk whenever it is read from there."""
    tensors = module._hf_hook.weights_map
    prefix, index = getattr(tensors, "prefix", ""), getattr(tensors, "dataset", tensors).index
    index[f"{prefix}{name}"]["dtype"] = str(dtype).removeprefix("torch.")
    parameter = module.get_parameter(name)
    parameter.data = parameter.data.to(dtype)


def is_stored(module: Any, name: str) -> bool:
    """Return whether a file holds the tensor `name` of an offloaded module, in the right shape."""
    stored = _files_of(module)
    return name in stored and stored[name].shape == module.state_dict()[name].shape


def unreadable(model: Any) -> list[str]:
    """Return the names of offloaded tensors that no file holds, or holds in another shape than the model has.

    With transformers 5.0 that is all of them: it reads nothing from a file unless the model is on several devices.
    """
    return [
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        if is_offloaded(module) or any(tensor.is_meta for tensor in module.parameters(recurse=False))
        for name, tensor in own_tensors(module).items()
        if not _is_readable(_files_of(module), name, tensor)
    ]


def _files_of(module: Any) -> Mapping[str, Tensor]:
    return module._hf_hook.weights_map if is_offloaded(module) else {}


def _is_readable(files: Mapping[str, Tensor], name: str, tensor: Tensor) -> bool:
    """Return whether `files` holds a tensor in its shape; true for one that is in memory and in no file."""
    return files[name].shape == tensor.shape if name in files else not tensor.is_meta
