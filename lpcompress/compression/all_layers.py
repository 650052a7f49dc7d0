"""Fit the layers of a model, in one process or in several that exchange the factors through files.

A layer so large that others would wait for its process is fitted by all of them together.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from lpcompress.atomic import ScratchDirectory
from lpcompress.compression.one_layer import Replacement, fit_layer
from lpcompress.compression.records import LayerRecord, Task
from lpcompress.errors import LpCompressError, UnsuitableError
from lpcompress.factor.problem import Settings
from lpcompress.formats.sizes import Spec
from lpcompress.nn import build, spec_of
from lpcompress.processes import SharedFit, Workers, spread, too_large
from lpcompress.progress import Progress
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.offloading import offload, save_tensors


@dataclass(frozen=True)
class Job:
    """The layers to fit, and how.

    Attributes
    ----------
    layers : mapping of str to Layer
        Handles by name.
    tasks : mapping of str to Task
        Tasks by the names of the layers to fit, in model order.
    optional : frozenset of str
        Names of layers that stay dense if the method does not support them or cannot reach the size.
    settings : Settings
    device : str, torch.device or None
        Where to fit; None means the device of each layer.
    tell : Progress
    compare : bool
        Whether to also fit plain SVD to each layer, for the report.
    """

    layers: Mapping[str, Layer]
    tasks: Mapping[str, Task]
    optional: frozenset[str]
    settings: Settings
    device: str | torch.device | None
    tell: Progress
    compare: bool = True


def fit_layers(job: Job, workers: Workers) -> dict[str, Replacement | UnsuitableError]:
    """Fit every layer of a job, without changing the model.

    Parameters
    ----------
    job : Job
        Must be the same in every process.
    workers : Workers
        Processes among which the layers are distributed, balanced by the number of matrix entries. They share the
        fit of a layer that has more entries than a process gets.

    Returns
    -------
    dict of str to Replacement or UnsuitableError
        Results by layer name, in the order of the tasks, the same in every process. An error gives the reason why an
        optional layer has no replacement. The replacement of a layer that is kept on disk is kept on disk too.

    Raises
    ------
    LpCompressError
        If a layer that is not optional cannot be fitted, or the processes do not share a temporary directory.
    """
    entries = {name: job.layers[name].matrix().numel() for name in job.tasks}
    if workers.count == 1:
        return spread(entries, partial(_fit_here, job), workers)
    with common_folder(workers) as folder:
        shared = too_large(entries, workers.count)
        found = spread(entries, partial(_fit_into, folder, workers, shared, job), workers, shared)
        return workers.together(lambda: {name: _received(folder, job.layers[name], it) for name, it in found.items()})


@contextmanager
def common_folder(workers: Workers) -> Iterator[Path]:
    """Create a temporary directory under the main process's TMPDIR, for all processes; it is removed at the end.

    Raises
    ------
    LpCompressError
        If another process cannot access it.
    """
    scratch = workers.main_alone(ScratchDirectory)
    folder: Path = workers.from_main(scratch and scratch.path)

    def refuse_inaccessible() -> None:
        if not folder.is_dir():
            raise LpCompressError(
                f"{folder}, a directory of the main process, must be accessible to all processes of the run. Set TMPDIR"
                " to a directory that their machines share."
            )

    workers.together(refuse_inaccessible)
    yield folder


def _fit(job: Job, name: str, done: float, end: float) -> Replacement | UnsuitableError:
    """Fit one layer; if it is optional and cannot be fitted, return the error."""
    progress = job.tell.under(f"{name}: ").within(done, end)
    try:
        return fit_layer(job.layers[name], job.tasks[name], job.settings, job.device, progress, job.compare)
    except UnsuitableError as error:
        if name not in job.optional:
            raise
        return type(error)(str(error))  # without its traceback, which references matrices


def _fit_here(job: Job, name: str, done: float, end: float) -> Replacement | UnsuitableError:
    """Fit one layer; keep the result on disk if the layer is kept there."""
    outcome = _fit(job, name, done, end)
    if isinstance(outcome, Replacement) and job.layers[name].is_offloaded:
        offload(outcome.module, outcome.module.state_dict())
    return outcome


def _fit_into(
    folder: Path, workers: Workers, shared: list[str], job: Job, name: str, done: float, end: float
) -> tuple[LayerRecord, Spec] | UnsuitableError:
    """Fit one layer, and write its tensors to a file named after it; if it is shared, the main process writes it."""
    if name in shared:
        crew = SharedFit(workers, torch.device(job.device or workers.device))
        job = replace(job, settings=replace(job.settings, crew=crew))
    outcome = _fit(job, name, done, end)
    if isinstance(outcome, UnsuitableError):
        return outcome
    if name not in shared or workers.is_main:
        save_tensors(outcome.module.state_dict(), folder / name)
    return outcome.record, spec_of(outcome.module)


def _received(
    folder: Path, layer: Layer, found: tuple[LayerRecord, Spec] | UnsuitableError
) -> Replacement | UnsuitableError:
    """Build the module whose tensors another process may have written to a file."""
    if isinstance(found, UnsuitableError):
        return found
    record, spec = found
    module, tensors = build(spec, layer.module), load_file(folder / layer.name)
    if layer.is_offloaded:
        offload(module, tensors)
    else:
        module.load_state_dict(tensors)
    return Replacement(record, module)
