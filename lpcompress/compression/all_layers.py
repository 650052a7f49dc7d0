"""Fitting the layers of a model, in one process or in several that hand each other the factors in files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lpcompress.compression.one_layer import replace_layer
from lpcompress.compression.records import LayerRecord, Task
from lpcompress.errors import LpCompressError, UnsuitableError
from lpcompress.factor.problem import Settings
from lpcompress.formats.sizes import Spec
from lpcompress.nn import FactoredMatrix, build, spec_of
from lpcompress.processes import Workers, spread
from lpcompress.progress import Progress
from lpcompress.surgery import finding
from lpcompress.surgery.matrices import matrix_of
from lpcompress.surgery.offloading import ScratchDirectory, is_offloaded, offload, save_tensors


@dataclass(frozen=True)
class Job:
    """What is asked of the layers of a model.

    Attributes
    ----------
    model : PreTrainedModel
    tasks : mapping of str to Task
        By the layers' names, in the order of the model.
    optional : frozenset of str
        Layers that may stay as they are if they are unsuitable.
    settings : Settings
    device : str, torch.device or None
        Where to factor; None is where the layer is.
    tell : Progress
    """

    model: Any
    tasks: Mapping[str, Task]
    optional: frozenset[str]
    settings: Settings
    device: str | torch.device | None
    tell: Progress


@dataclass(frozen=True)
class Replacement:
    """The module for the place of a layer, and what was done."""

    record: LayerRecord
    module: FactoredMatrix

    @property
    def provenance(self) -> dict[str, Any]:
        """How it came about, for `config.json`."""
        return {"method": self.record.method, "p": self.record.p, "row_weights": self.record.row_weights}


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
        If a layer cannot be replaced, or the processes do not see the same files.
    """
    layers = finding.all_layers(job.model)
    entries = {name: matrix_of(layers[name]).numel() for name in job.tasks}
    if workers.count == 1:
        return spread(entries, partial(_fit_here, job), workers)
    with common_folder(workers) as folder:
        found = spread(entries, partial(_fit_into, folder, job), workers)
        return workers.together(lambda: {name: _received(folder, job.model, name, it) for name, it in found.items()})


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
    """Fit one layer; return why it is left as it is, if that may be."""

    def say(doing: str) -> None:
        job.tell(f"{name}: {doing}", done, total)

    try:
        with finding.lend_layer(job.model, name) as layer:
            return Replacement(*replace_layer(name, layer, job.tasks[name], job.settings, job.device, say))
    except UnsuitableError as error:
        if name not in job.optional:
            raise
        return type(error)(str(error))  # without its traceback, which holds matrices


def _fit_here(job: Job, name: str, done: int, total: int) -> Replacement | UnsuitableError:
    """Fit one layer, and keep the result where the layer is."""
    outcome = _fit(job, name, done, total)
    if isinstance(outcome, Replacement) and is_offloaded(finding.owner_of(job.model, name)):
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
    folder: Path, model: Any, name: str, found: tuple[LayerRecord, Spec] | UnsuitableError
) -> Replacement | UnsuitableError:
    """Build what some process has left in a file."""
    if isinstance(found, UnsuitableError):
        return found
    record, spec = found
    module, tensors = build(spec, finding.all_layers(model)[name]), load_file(folder / name)
    if is_offloaded(finding.owner_of(model, name)):
        offload(module, tensors)
    else:
        module.load_state_dict(tensors)
    return Replacement(record, module)
