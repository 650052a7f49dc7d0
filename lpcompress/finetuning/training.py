"""Training with transformers' Trainer: frozen parameters, and resuming an interrupted run."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from lpcompress.errors import LpCompressError
from lpcompress.evaluation.prediction import Encoded
from lpcompress.finetuning.learner import Learner
from lpcompress.finetuning.rates import RelativeTrainer
from lpcompress.progress import Progress
from lpcompress.surgery.finding import WORDS
from lpcompress.surgery.layer import layers_of
from lpcompress.surgery.swapping import trained_as_before

SAVES = 5  # number of times that a run saves a state to resume from


@dataclass(frozen=True)
class Examples(Dataset):
    """Training rows with their targets.

    Attributes
    ----------
    encoded : Encoded
    targets : ndarray of shape (n,)
        Number of the correct output (int64), or regression value (float).
    """

    encoded: Encoded
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.encoded.row(row), "labels": self.targets[row].item()}


@contextmanager
def frozen(model: Any, patterns: Sequence[str]) -> Iterator[None]:
    """Exclude parameters from training while the block runs.

    Raises
    ------
    LpCompressError
        If a pattern matches nothing, or nothing is left to train.
    """
    with trained_as_before(model):
        for pattern in patterns:
            for parameter in _named(model, pattern):
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise LpCompressError(f"freeze {', '.join(patterns)} leaves nothing to train. Name fewer layers.")
        yield


def _named(model: Any, pattern: str) -> list[Tensor]:
    """Return the parameters that a word or a wildcard matches."""
    parameters, layers = dict(model.named_parameters()), layers_of(model)
    asks = WORDS.get(pattern)
    chosen = [value for name, value in parameters.items() if not asks and fnmatchcase(name, pattern)]
    for name, layer in layers.items():
        if asks(layer) if asks else fnmatchcase(name, pattern):
            chosen += layer.module.parameters()
    if not chosen:
        near = get_close_matches(pattern, [*layers, *parameters], n=1, cutoff=0.3)
        hint = f" Nearest: {near[0]!r}." if near else ""
        raise LpCompressError(f"freeze {pattern!r} matched nothing in this {type(model).__name__}.{hint}")
    return chosen


def train(learner: Learner, examples: Examples, directory: Path, device: torch.device, progress: Progress) -> float:
    """Train in place, resuming from the last complete state in `directory` if there is one.

    Returns
    -------
    float
        Mean loss of the batches.

    Raises
    ------
    LpCompressError
        If the Trainer uses another device.
    """
    recipe, on_cpu = learner.recipe, device.type == "cpu"
    arguments = TrainingArguments(
        output_dir=str(directory),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps or -1,
        learning_rate=recipe.learning_rate,
        warmup_steps=0.1,
        weight_decay=0.01,
        per_device_train_batch_size=recipe.batch_size,
        bf16=recipe.mixed_precision == "bf16",
        fp16=recipe.mixed_precision == "fp16",
        seed=recipe.seed,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        save_strategy="steps",
        save_steps=1 / SAVES,
        save_total_limit=1,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    if device.index not in (None, arguments.device.index):
        raise LpCompressError(
            f"training runs on {arguments.device}, not on {device}. Choose the GPU with CUDA_VISIBLE_DEVICES instead."
        )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # otherwise one process would split each batch over all visible GPUs
    with kept_random_state():
        trainer = RelativeTrainer(
            learner, arguments, examples.encoded.collator, examples, callbacks=[Reporting(progress)]
        )
        trainer.remove_callback(PrinterCallback)  # it writes to stdout
        learner.train()
        trainer.train(resume_from_checkpoint=last_state(directory))
    return _mean_loss(trainer.state.log_history)


class Reporting(TrainerCallback):
    """Trainer callback that reports finished steps, and keeps the loss with every saved state."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Report a finished step."""
        self.progress("training", state.global_step, state.max_steps)
        control.should_log = control.should_save  # which it is at the end too


def _mean_loss(history: list[dict[str, float]]) -> float:
    """Return the mean loss of all steps, also those before a run was resumed, which the Trainer's own figure lacks."""
    logged = [(int(entry["step"]), entry["loss"]) for entry in history if "loss" in entry]
    before = [0, *(step for step, _ in logged)]
    total = sum(loss * (step - last) for (step, loss), last in zip(logged, before, strict=False))
    return total / before[-1] if logged else 0.0


def last_state(directory: Path) -> str | None:
    """Return the newest complete state, or None: the Trainer writes `trainer_state.json` last."""
    states = [path.parent for path in directory.glob("checkpoint-*/trainer_state.json") if _is_complete(path)]
    return str(max(states, key=lambda path: int(path.name.rpartition("-")[2]))) if states else None


def _is_complete(file: Path) -> bool:
    """Return whether a JSON file was written to its end; a process may be killed half-way."""
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the global random generators after the block: the Trainer seeds them all."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
