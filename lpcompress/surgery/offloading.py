"""Models whose tensors stay in files and are read one layer at a time, by the hooks of accelerate.

transformers loads such a model with `device_map={"": "disk"}` and writes it shard by shard. This module brings the
tensors of one module into memory for a while, and moves those of new modules to files too.
"""

import logging
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from lpcompress.errors import CheckpointError

ON_DISK = {"": "disk"}
"""The `device_map` under which every tensor stays in its file."""


class ScratchDirectory:
    """A directory for temporary files (under TMPDIR), removed when nothing holds this object any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="lpcompress-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def is_offloaded(module: nn.Module) -> bool:
    """Tell whether the tensors of one module (not of its children) stay in files."""
    from accelerate.utils import has_offloaded_params

    return has_offloaded_params(module)


@contextmanager
def in_memory(module: nn.Module) -> Iterator[None]:
    """Lend `module` out with its tensors; changes to them are lost if they stay in files."""
    from accelerate.utils import align_module_device

    with align_module_device(module):
        yield


@contextmanager
def editable(module: nn.Module) -> Iterator[None]:
    """Lend `module` out with its tensors, and keep what is changed."""
    with in_memory(module):
        yield
        changed = module.state_dict()
    if is_offloaded(module):
        offload(module, changed)


def offload(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Move the tensors of `module`, whose values are `tensors`, to a file that lasts as long as the module."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module
    from accelerate.utils import OffloadedWeightsLoader

    scratch = ScratchDirectory()
    file = scratch.path / "tensors.safetensors"
    save_tensors(tensors, file)
    index = {name: {"safetensors_file": str(file), "weight_name": name} for name in tensors}
    loader: Any = OffloadedWeightsLoader(index=index)
    loader.scratch = scratch
    add_hook_to_module(module, AlignDevicesHook("cpu", offload=True, offload_buffers=True, weights_map=loader))


def save_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """Write tensors to a temporary file of safetensors, whatever their strides.

    Raises
    ------
    CheckpointError
        If there is no room for it.
    """
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    except (OSError, SafetensorError) as error:  # the latter is how the writer reports a full disk
        raise CheckpointError(
            f"{file.parent.parent} cannot hold the temporary files: {error}. Make room there, or set TMPDIR to a"
            " directory that has room for the compressed layers."
        ) from error


@contextmanager
def quiet_offloading() -> Iterator[None]:
    """Silence what accelerate and transformers say of tensors that stay on the disk, because here they are meant to."""
    logger = logging.getLogger("accelerate.big_modeling")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attempting to save a model with offloaded modules")
            yield
    finally:
        logger.setLevel(level)


def stored_tensor(module: Any, name: str) -> Tensor:
    """Return a tensor of `module`, mapped from its file if it stays there."""
    tensor = module.state_dict()[name]
    return module._hf_hook.weights_map[name] if tensor.is_meta else tensor


def misshapen(model: Any) -> list[str]:
    """Return the names of tensors that have another shape in their files than in the model."""
    return [
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        if is_offloaded(module)
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        if name in module._hf_hook.weights_map and module._hf_hook.weights_map[name].shape != tensor.shape
    ]
