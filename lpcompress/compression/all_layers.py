"""Fitting the layers of a model, in one process or in several that hand each other the factors in files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from lpcompress.compression.one_layer import Replacement, fit_layer
from lpcompress.compression.records import LayerRecord, Task
from lpcompress.errors import LpCompressError, UnsuitableError
from lpcompress.factor.problem import Settings
from lpcompress.formats.sizes import Spec
from lpcompress.nn import build, spec_of
from lpcompress.processes import Workers, spread
from lpcompress.progress import Progress
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.offloading import ScratchDirectory, offload, save_tensors


@dataclass(frozen=True)
class Job:
    """What is asked of the layers of a model.

    Attributes
    ----------
    layers : mapping of str to Layer
        By name.
    tasks : mapping of str to Task
        By the names of the layers that are to be fitted, in the order of the model.
    optional : frozenset of str
        Layers that may stay as they are if the method does not support them or cannot reach the size.
    settings : Settings
    device : str, torch.device or None
        Where to fit; None is where the layer is.
    tell : Progress
    compare : bool
        Whether to fit plain SVD beside each, for the report.
    """

    layers: Mapping[str, Layer]
    tasks: Mapping[str, Task]
    optional: frozenset[str]
    settings: Settings
    device: str | torch.device | None
    tell: Progress
    compare: bool = True


def fit_layers(job: Job, workers: Workers) -> dict[str, Replacement | UnsuitableError]:
    """Fit every layer of a job; the model itself is not changed.

    Parameters
    ----------
    job : Job
        The same in every process.
    workers : Workers
        Processes among which the layers are shared out, by their entries.

    Returns
    -------
    dict of str to Replacement or UnsuitableError
        By the layers' names, in the order of the tasks and in every process; an error says why an optional layer has
        none. Tensors of layers that stay on the disk do so too.

    Raises
    ------
    LpCompressError
        If a layer that is not optional cannot be fitted, or the processes do not see the same files.
    """
    entries = {name: job.layers[name].matrix().numel() for name in job.tasks}
    if workers.count == 1:
        return spread(entries, partial(_fit_here, job), workers)
    with common_folder(workers) as folder:
        found = spread(entries, partial(_fit_into, folder, job), workers)
        return workers.together(lambda: {name: _received(folder, job.layers[name], it) for name, it in found.items()})


@contextmanager
def common_folder(workers: Workers) -> Iterator[Path]:
    """Lend out an empty directory of the main process, under its TMPDIR; it is removed when that one leaves.

    Raises
    ------
    LpCompressError
        If another process does not see it.
    """
    scratch = workers.main_alone(ScratchDirectory)
    folder: Path = workers.from_main(scratch and scratch.path)

    def refuse_unseen() -> None:
        if not folder.is_dir():
            raise LpCompressError(
                f"{folder} of the main process must be seen by all that share the run. Set TMPDIR to a directory that"
                " their machines have in common."
            )

    workers.together(refuse_unseen)
    yield folder


def _fit(job: Job, name: str, done: int, total: int) -> Replacement | UnsuitableError:
    """Fit one layer; where it is optional, return the error that says why it stays as it is."""

    def say(doing: str) -> None:
        job.tell(f"{name}: {doing}", done, total)

    try:
        return fit_layer(job.layers[name], job.tasks[name], job.settings, job.device, say, job.compare)
    except UnsuitableError as error:
        if name not in job.optional:
            raise
        return type(error)(str(error))  # without its traceback, which holds matrices


def _fit_here(job: Job, name: str, done: int, total: int) -> Replacement | UnsuitableError:
    """Fit one layer, and keep the result where the layer is."""
    outcome = _fit(job, name, done, total)
    if isinstance(outcome, Replacement) and job.layers[name].is_offloaded:
        offload(outcome.module, outcome.module.state_dict())
    return outcome


def _fit_into(folder: Path, job: Job, name: str, done: int, total: int) -> tuple[LayerRecord, Spec] | UnsuitableError:
    """Fit one layer, and leave its tensors in a file of its name."""
    outcome = _fit(job, name, done, total)
    if isinstance(outcome, UnsuitableError):
        return outcome
    save_tensors(outcome.module.state_dict(), folder / name)
    return outcome.record, spec_of(outcome.module)


def _received(
    folder: Path, layer: Layer, found: tuple[LayerRecord, Spec] | UnsuitableError
) -> Replacement | UnsuitableError:
    """Build the module whose tensors some process has left in a file."""
    if isinstance(found, UnsuitableError):
        return found
    record, spec = found
    module, tensors = build(spec, layer.module), load_file(folder / layer.name)
    if layer.is_offloaded:
        offload(module, tensors)
    else:
        module.load_state_dict(tensors)
    return Replacement(record, module)
