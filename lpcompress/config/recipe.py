"""How to fine-tune, checked."""

from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real

from lpcompress.errors import PlanError

PRECISIONS = ("no", "bf16", "fp16")
NUMBERS = ("epochs", "learning_rate", "batch_size", "seed", "soft", "temperature", "hidden")


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
        if isinstance(self.freeze, str):
            raise PlanError(f"freeze must be a tuple of words or wildcards. Got {self.freeze!r}.")
        for name in NUMBERS:
            if not isinstance(getattr(self, name), Real) or not isfinite(getattr(self, name)):
                raise PlanError(f"{name} must be a finite number. Got {getattr(self, name)!r}.")
        if not isinstance(self.max_steps, Integral | None):
            raise PlanError(f"max_steps must be a whole number. Got {self.max_steps!r}.")
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
