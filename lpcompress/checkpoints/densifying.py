"""Write a compressed checkpoint as a plain one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpcompress.checkpoints.files import is_compressed
from lpcompress.checkpoints.load_errors import in_one_line
from lpcompress.checkpoints.loading import load
from lpcompress.checkpoints.outputs import TOLERANCE, outputs_of, same_outputs
from lpcompress.checkpoints.saving import new_checkpoint, refuse_existing, write
from lpcompress.checkpoints.verification import WAY_OUT, Probe
from lpcompress.errors import CheckpointError

TOLERANCE_ELSE = 1e-3  # matrices are multiplied out first, and sums have another order
AS_STORED = "codes"  # resident form that computes with what is stored: not with a matrix, not rounded


def densify(source: str | Path, out: str | Path, overwrite: bool = False, verify: bool = True) -> None:
    """Write a plain checkpoint in which compressed layers are multiplied out; it loads without lpcompress.

    Small files beside the weights are copied; see `saving.write`.

    Parameters
    ----------
    source : str or Path
        A compressed checkpoint.
    out : str or Path
        Directory of the plain checkpoint.
    overwrite : bool, default=False
        See `saving.new_checkpoint`.
    verify : bool, default=True
        Before the new checkpoint is put in place, load it, compare it with the model in memory, and compare the
        outputs with those of the compressed model.

    Raises
    ------
    CheckpointError
        If `source` cannot be loaded or is not compressed, if `out` exists or cannot be written, or if a comparison
        fails.
    """
    refuse_existing(out, overwrite, [source])
    model, tokenizer = load(str(source), resident=AS_STORED)
    if not is_compressed(model.config):
        raise CheckpointError(f"{source} must be a checkpoint compressed by lpcompress. It is already dense.")
    probe = Probe.of(model) if verify else None
    inputs = probe.inputs if probe else None
    expected = outputs_of(model, inputs) if inputs else []
    model.dequantize()
    with new_checkpoint(out, overwrite, [source]) as directory:
        write(directory, model, tokenizer, source=str(source), probe=probe)
        if inputs:
            require_same(expected, model, inputs, source, directory)


def require_same(
    expected: list[Tensor], model: Any, inputs: Mapping[str, Tensor], source: str | Path, directory: Path
) -> None:
    """Raise CheckpointError unless a densified model computes what the compressed one does.

    Rounding errors of float32 are all that some models have: a norm of a single value divides them by their own size.
    So outputs that differ are computed again in float64, and must differ there too.

    Parameters
    ----------
    expected : list of Tensor
        Outputs of the compressed model.
    model : PreTrainedModel
        The densified model.
    inputs : mapping of str to Tensor
    source, directory : str or Path
        The checkpoints of the two models.
    """
    tolerance = TOLERANCE.get(model.dtype, TOLERANCE_ELSE)
    try:
        if same_outputs(expected, outputs_of(model, inputs), tolerance):
            return
        same = same_outputs(in_float64(source, inputs), in_float64(directory, inputs), tolerance)
    except Exception as error:  # models raise anything at all
        raise CheckpointError(f"the densified model does not run: {in_one_line(error)} {WAY_OUT}") from error
    if not same:
        raise CheckpointError(f"the densified model gives other outputs than the compressed one. {WAY_OUT}")


def in_float64(directory: str | Path, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the outputs of a checkpoint's model, computed in float64."""
    model, _ = load(str(directory), torch.float64, resident=AS_STORED)
    wide = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}
    return outputs_of(model.to(torch.float64), wide)
