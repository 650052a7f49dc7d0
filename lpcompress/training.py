"""Training a classifier on rows: transformers' Trainer around a loss that may also follow a dense teacher."""

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from lpcompress import surgery
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.glue.prediction import Encoded

PRECISIONS = ("no", "bf16", "fp16")
SAVES = 5  # how often a run keeps what a resumed one can go on from
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes
    ----------
    epochs : float, default=2
    max_steps : int or None
        Ends the run earlier or later than `epochs`.
    learning_rate : float, default=5e-5
        Reached after a tenth of the steps, then falling to 0.
    batch_size : int, default=32
        Rows of a batch, in each process.
    freeze : tuple of str
        Words as for layers to compress (`embedding`, `attention`, ...), or shell wildcards over names of modules and
        parameters, that are not trained.
    mixed_precision : str, default="no"
        One of `PRECISIONS`.
    seed : int, default=0
        Of the head, the order of the rows and dropout.
    soft : float, default=0.5
        With a teacher: share of the loss that is the divergence from its logits; the labels have the rest.
    temperature : float, default=2
        By which both models' logits are divided in that divergence.
    hidden : float, default=1
        With a teacher of the same sizes: weight of the relative squared distance from its hidden states.

    Raises
    ------
    PlanError
        If a number makes no sense.
    """

    epochs: float = 2.0
    max_steps: int | None = None
    learning_rate: float = 5e-5
    batch_size: int = 32
    freeze: tuple[str, ...] = ()
    mixed_precision: str = "no"
    seed: int = 0
    soft: float = 0.5
    temperature: float = 2.0
    hidden: float = 1.0

    def __post_init__(self) -> None:
        checks = {
            "epochs must be above 0": self.epochs > 0,
            "max_steps must be at least 1": self.max_steps is None or self.max_steps >= 1,
            "learning_rate must be above 0": self.learning_rate > 0,
            "batch_size must be at least 1": self.batch_size >= 1,
            f"mixed_precision must be one of {', '.join(PRECISIONS)}": self.mixed_precision in PRECISIONS,
            "seed must be between 0 and 2^32 - 1": 0 <= self.seed < 2**32,  # what NumPy takes
            "soft must be between 0 and 1": 0 <= self.soft <= 1,
            "temperature must be above 0": self.temperature > 0,
            "hidden must not be negative": self.hidden >= 0,
        }
        for rule, kept in checks.items():
            if not kept:
                raise PlanError(f"{rule}. Got {getattr(self, rule.split()[0])!r}.")


@dataclass(frozen=True)
class Examples(Dataset):
    """Rows with what a model is to say of them.

    Attributes
    ----------
    encoded : Encoded
    targets : ndarray of shape (n,)
        Number of the model's output (int64), or value of a regression (float).
    """

    encoded: Encoded
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.encoded.row(row), "labels": self.targets[row].item()}


@dataclass(frozen=True)
class Teacher:
    """A model to follow.

    Attributes
    ----------
    model : PreTrainedModel
    outputs : list of int
        Number of its output that means what output i of the student means.
    """

    model: Any
    outputs: list[int]


class Learner(nn.Module):
    """A classifier and its loss.

    Wrapped so, its tensors keep their own names in what the Trainer saves to be resumed.

    Parameters
    ----------
    model : PreTrainedModel
    recipe : Recipe
    teacher : Teacher, optional
    """

    def __init__(self, model: Any, recipe: Recipe, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.teachers = [teacher] if teacher else []  # in a list, so that it is no part of this module
        self.follows_hidden = teacher is not None and recipe.hidden > 0 and same_sizes(model, teacher.model)

    def forward(self, labels: Tensor, **features: Tensor) -> dict[str, Tensor]:
        """Return the mean loss of a batch: `labels` (rows,), features as the tokenizer's (rows, length)."""
        output = call(self.model, features, self.follows_hidden)
        if output.logits.shape[-1] == 1:
            loss = functional.mse_loss(output.logits.squeeze(-1), labels.to(output.logits.dtype))
        else:
            loss = functional.cross_entropy(output.logits, labels)
        for teacher in self.teachers:
            with torch.no_grad():
                example = call(teacher.model.eval(), features, self.follows_hidden)
            logits = example.logits[..., teacher.outputs]
            soft = divergence(output.logits, logits, self.recipe.temperature)
            loss = (1 - self.recipe.soft) * loss + self.recipe.soft * soft
            if self.follows_hidden:
                distance = hidden_distance(output.hidden_states, example.hidden_states, features["attention_mask"])
                loss = loss + self.recipe.hidden * distance
        return {"loss": loss, "logits": output.logits}


def call(model: Any, features: Mapping[str, Tensor], hidden: bool) -> Any:
    """Return the output of a model for those of the features that it knows."""
    known = inspect.signature(model.forward).parameters
    return model(**{key: value for key, value in features.items() if key in known}, output_hidden_states=hidden)


def divergence(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(wanted || ours) of the softened classes, the mean over rows; squared distance for one output.

    References
    ----------
    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015: T^2 keeps the gradients' size.
    """
    if logits.shape[-1] == 1:
        return functional.mse_loss(logits, wanted)
    ours, theirs = (functional.log_softmax(each / temperature, dim=-1) for each in (logits, wanted))
    return temperature**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def hidden_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Return sum |ours - theirs|^2 / sum |theirs|^2 over the tokens that `mask` (rows, length) has, mean of layers."""
    weights = mask.unsqueeze(-1)
    shares = [
        ((own - other).square() * weights).sum() / (other.square() * weights).sum()
        for own, other in zip(ours, theirs, strict=True)
    ]
    return torch.stack(shares).mean()


def same_sizes(model: Any, teacher: Any) -> bool:
    """Tell whether the hidden states of two models can be compared one by one."""
    return all(
        getattr(model.config, name, None) == getattr(teacher.config, name, None)
        for name in ("model_type", "num_hidden_layers", "hidden_size")
    )


def freeze(model: Any, patterns: Sequence[str]) -> None:
    """Exclude parameters from training.

    Raises
    ------
    LpCompressError
        If a pattern matches nothing, or nothing is left to train.
    """
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    for pattern in patterns:
        asks = surgery.WORDS.get(pattern)
        frozen = [value for name, value in parameters.items() if not asks and fnmatchcase(name, pattern)]
        for name, module in modules.items():
            if asks(model, name, module) if asks else fnmatchcase(name, pattern):
                frozen += module.parameters()
        if not frozen:
            near = get_close_matches(pattern, [*modules, *parameters], n=1, cutoff=0.3)
            hint = f" Nearest: {near[0]!r}." if near else ""
            raise LpCompressError(f"freeze {pattern!r} matched nothing in this {type(model).__name__}.{hint}")
        for parameter in frozen:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise LpCompressError(f"freeze {', '.join(patterns)} leaves nothing to train. Name fewer layers.")


def train(learner: Learner, examples: Examples, directory: Path, device: torch.device, progress: Progress) -> float:
    """Train in place; go on from the last complete state in `directory` if there is one.

    Returns
    -------
    float
        Mean loss of the batches.

    Raises
    ------
    LpCompressError
        If mixed precision needs another device.
    """
    recipe, on_cpu = learner.recipe, device.type == "cpu"
    if recipe.mixed_precision == "fp16" and on_cpu:
        raise LpCompressError("mixed_precision fp16 needs a GPU; bf16 works on a CPU too. This run is on a CPU.")
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
    with kept_random_state():
        trainer = Trainer(learner, arguments, examples.encoded.collator, examples, callbacks=[Telling(progress)])
        trainer.remove_callback(PrinterCallback)  # it writes to stdout
        learner.train()
        result = trainer.train(resume_from_checkpoint=last_state(directory))
    return float(result.training_loss)


class Telling(TrainerCallback):
    """Tells of finished steps."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Tell of a finished step."""
        self.progress("training", state.global_step, state.max_steps)


def last_state(directory: Path) -> str | None:
    """Return the newest state that was written to its end: the Trainer writes `trainer_state.json` last."""
    states = [path.parent for path in directory.glob("checkpoint-*/trainer_state.json")]
    return str(max(states, key=lambda path: int(path.name.rpartition("-")[2]))) if states else None


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Give the global generators back as they were: the Trainer seeds them all."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
