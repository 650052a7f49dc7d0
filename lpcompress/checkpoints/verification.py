"""Check a checkpoint before it is put in place: plain `from_pretrained` must give the model that was in memory."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lpcompress.atomic import ScratchDirectory
from lpcompress.checkpoints.inputs import candidates
from lpcompress.checkpoints.load_errors import in_one_line
from lpcompress.checkpoints.outputs import TOLERANCE, device_of, outputs_of, same_outputs
from lpcompress.errors import CheckpointError
from lpcompress.nn.residence import keeping_decoded
from lpcompress.presentation import short_list
from lpcompress.progress import Told, unheard
from lpcompress.surgery.layer import layers_of
from lpcompress.surgery.offloading import (
    ON_DISK,
    all_in_memory,
    in_memory,
    keeps_on_disk,
    own_tensors,
    quiet_offloading,
    share_files,
    stored_tensor,
)
from lpcompress.surgery.writing import noticing_writes

TOLERANCE_ELSE = 1e-4  # tensors that stay on disk may be aligned differently in memory, and sums have another order
LOADED, COMPARED = 0.6, 0.7  # shares of the check at whose end the files are loaded and the tensors compared, as a rule
WAY_OUT = "Nothing was written. Please report this model; --no-verify skips the check."


@dataclass(frozen=True)
class Probe:
    """Small inputs with which a model runs, found before anything in it is changed.

    Attributes
    ----------
    inputs : dict of str to Tensor, or None
        Keyword arguments of `forward`; None if none of the known kinds of input works for the model.
    """

    inputs: dict[str, Tensor] | None

    @classmethod
    def of(cls, model: Any) -> "Probe":
        """Return the first of the inputs that `inputs.candidates` suggests with which `model` runs.

        A few architectures run only in memory. A model whose tensors are kept on disk is read into it if nothing else
        works. Layers whose weights the model changes are marked: see `noticing_writes`.
        """
        on_disk = keeps_on_disk(model)
        for where in (nullcontext, all_in_memory) if on_disk else (nullcontext,):
            with where(model):
                for inputs in candidates(model):
                    try:
                        with noticing_writes(model):
                            outputs_of(model, inputs)
                    except Exception:  # models raise anything at all for inputs of another kind
                        continue
                    return cls(inputs)
        return cls(None)


@dataclass(frozen=True)
class Verification:
    """What was checked, and how long it took.

    Attributes
    ----------
    outputs : bool
        Whether the outputs for drawn inputs were compared too; False if no inputs are known for the model.
    seconds : float
    """

    outputs: bool
    seconds: float


def verify(directory: Path, model: Any, probe: Probe, told: Told = unheard) -> Verification:
    """Rebuild the checkpoint in `directory` as any user would, and compare it with `model`.

    Parameters
    ----------
    directory : Path
        A complete checkpoint.
    model : PreTrainedModel
        The model that was saved; its tensors may be kept on disk.
    probe : Probe
        Of the model before it was changed.
    told : callable (share), optional
        Takes the share of this that is done.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be loaded, a tensor differs in any bit, or the model does not run or gives other
        outputs.
    """
    began = time.perf_counter()
    try:
        rebuilt = reloaded(directory, model)
    except Exception as error:  # loaders raise anything at all, as in `readable`
        raise CheckpointError(f"the checkpoint cannot be loaded again: {in_one_line(error)} {WAY_OUT}") from error
    told(LOADED)
    different = list(differences(model, rebuilt))
    told(COMPARED)
    if different:
        raise CheckpointError(f"the checkpoint holds other values than the model: {short_list(different)}. {WAY_OUT}")
    if probe.inputs is not None:
        compare_outputs(model, rebuilt, probe.inputs)
    told(1)
    return Verification(probe.inputs is not None, time.perf_counter() - began)


def reloaded(directory: Path, model: Any) -> Any:
    """Load the checkpoint in `directory`; its tensors stay on disk if those of `model` do, which saves memory."""
    on_disk = keeps_on_disk(model)
    scratch = ScratchDirectory() if on_disk else None
    placement = {"device_map": ON_DISK, "offload_folder": scratch.path} if scratch else {}
    with quiet_offloading(), keeping_decoded():
        rebuilt = type(model).from_pretrained(directory, local_files_only=True, **placement)
    rebuilt.scratch = scratch  # kept as long as the model
    if on_disk:
        share_files(rebuilt)
    return rebuilt


def differences(model: nn.Module, rebuilt: nn.Module) -> Iterator[str]:
    """Yield the names of the tensors of `model` that `rebuilt` lacks or has with other bits."""
    others = layers_of(rebuilt)
    for name, module in model.named_modules():
        other = rebuilt if not name else others[name].holder if name in others else None
        theirs = own_tensors(other) if other is not None else {}
        for leaf in own_tensors(module):
            if leaf not in theirs or not same_bits(stored_tensor(module, leaf), stored_tensor(other, leaf)):
                yield f"{name}.{leaf}".lstrip(".")


def same_bits(ours: Tensor, theirs: Tensor) -> bool:
    """Return whether two tensors are equal to the bit, NaN included, once `theirs` has the dtype of `ours`."""
    if ours.shape != theirs.shape:
        return False
    ours, theirs = ours.detach().cpu(), theirs.detach().to("cpu", ours.dtype)
    return torch.equal(ours, theirs) or torch.equal(as_bytes(ours), as_bytes(theirs))


def as_bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, shape (bytes,)."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def compare_outputs(model: Any, rebuilt: Any, inputs: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless both models run and give the same outputs."""
    with sharing_decoded(model, rebuilt):
        fault = disagreement(model, rebuilt, inputs)
        if fault and keeps_on_disk(model):
            # some architectures do not run, or run wrongly, while tensors are kept on disk
            with quiet_offloading(), all_in_memory(model), all_in_memory(rebuilt):
                fault = disagreement(model, rebuilt, inputs)
    if fault:
        raise CheckpointError(f"{fault} {WAY_OUT}")


@contextmanager
def sharing_decoded(model: nn.Module, rebuilt: nn.Module) -> Iterator[None]:
    """Let an embedding that is kept on disk have its integers in memory, not decoded for each look-up and tied head.

    Both models use those that were decoded to check the rebuilt one, because their streams were found to be equal.
    """
    others = layers_of(rebuilt)
    pairs = [
        (layer.module, others[name].module)
        for name, layer in layers_of(model).items()
        if layer.is_compressed and layer.module.needs_rows and layer.module.is_on_disk
    ]
    for ours, theirs in pairs:
        with in_memory(ours), in_memory(theirs):
            theirs.share_decoded(ours)
    try:
        yield
    finally:
        for ours, theirs in pairs:
            ours.forget()
            theirs.forget()


def disagreement(model: Any, rebuilt: Any, inputs: dict[str, Tensor]) -> str | None:
    """Return what differs between the outputs of two models; None if nothing does."""
    try:
        if not keeps_on_disk(rebuilt):
            rebuilt.to(device_of(model), model.dtype)
        found = outputs_of(rebuilt, inputs)
        expected = outputs_of(model, inputs)
    except Exception as error:  # models raise anything at all
        return f"the compressed model does not run: {in_one_line(error)}"
    if not same_outputs(expected, found, TOLERANCE.get(model.dtype, TOLERANCE_ELSE)):
        return "the checkpoint gives other outputs than the model."
    return None
