"""Search for the smallest size at which a compressed model passes its gates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from lpcompress.config.plan import Plan
from lpcompress.errors import UnsuitableError
from lpcompress.evaluation.before_after import BeforeAfter
from lpcompress.evaluation.evaluation import Evaluation
from lpcompress.evaluation.gates import AVERAGE
from lpcompress.evaluation.trials import Trial, named
from lpcompress.progress import Progress
from lpcompress.surgery.finding import find_layers
from lpcompress.surgery.sizes import tensor_bytes

LARGEST = 0.9  # share of the chosen layers' bytes that is kept at the largest size
STEPS = 8  # sizes in an octave: each is 8 % smaller than the one before
COUNT = 63  # sizes, down to 0.4 %; bisection among 2^n - 1 takes n trials
EMBEDDING = ("embedding",)


@dataclass(frozen=True)
class Sizes:
    """The sizes among which the search decides, from large to small.

    For the word embedding alone a size is a `ratio`. For other layers it is a `target_size`, because a size of the
    whole model is divided among layers by what their errors do to its output.

    Attributes
    ----------
    key : str
        Field of `Plan`.
    share : float
        Share of the model's bytes that the chosen layers take.
    """

    key: str
    share: float

    @classmethod
    def of(cls, model: Any, plan: Plan) -> Self:
        """Return the sizes for the layers that a plan chooses."""
        chosen = find_layers(model, plan.layers).values()
        share = sum(layer.stored()[1] for layer in chosen) / tensor_bytes(model)
        return cls("ratio" if plan.layers == EMBEDDING else "target_size", share)

    def at(self, step: int) -> dict[str, float]:
        """Return a size as a field of `Plan`.

        Examples
        --------
        >>> Sizes("ratio", 0.5).at(0), Sizes("target_size", 0.5).at(8)
        ({'ratio': 0.1}, {'target_size': 0.725})
        """
        removed = 1 - LARGEST * 2 ** (-step / STEPS)
        return {self.key: round(removed if self.key == "ratio" else 1 - self.share * removed, 4)}


@dataclass(frozen=True)
class Search:
    """Result of `smallest_passing`.

    Attributes
    ----------
    tried : sequence of Trial
        In the order of the search.
    plan : Plan or None
        The plan of the smallest size that passed; None if none did.
    scores : Evaluation
        With that plan; if no size passed, of the largest that was scored.
    """

    tried: Sequence[Trial]
    plan: Plan | None
    scores: Evaluation


def smallest_passing(exam: BeforeAfter, plan: Plan, progress: Progress) -> Search:
    """Find the smallest size at which a model passes its gates, by bisection among `COUNT` sizes.

    Scores need not fall steadily with the size: on few rows they jump. What is found is a size that passes, next to a
    size 8 % smaller that was tried and does not.

    Parameters
    ----------
    exam : BeforeAfter
        The model, its task and the gates.
    plan : Plan
        What to compress and how; its size is not used.
    progress : Progress

    Raises
    ------
    UnsuitableError
        If the method cannot make any of the sizes.
    """
    sizes, tried = Sizes.of(exam.model, plan), list[Trial]()
    best: tuple[Plan, Evaluation] | None = None
    worse: Evaluation | None = None
    start, stop = 0, COUNT  # all sizes before `start` are larger than one that passes
    while start < stop:
        middle = (start + stop) // 2
        wanted = Plan.of(plan, sizes.at(middle))
        trial, scores = _tried(exam, wanted, sizes.at(middle))
        tried.append(trial)
        progress(f"{trial.name}: {'passes' if trial.passed else trial.reason}")
        if scores and trial.passed:
            best, start = (wanted, scores), middle + 1
        else:
            worse, stop = scores or worse, middle
    if best:
        return Search(tried, *best)
    if worse is None:
        raise UnsuitableError(tried[-1].reason)
    return Search(tried, None, worse)


def _tried(exam: BeforeAfter, plan: Plan, size: dict[str, float]) -> tuple[Trial, Evaluation | None]:
    """Try a size; without scores if the method cannot make it."""
    try:
        result = exam.of_plan(named(size), plan)
    except UnsuitableError as error:
        return Trial(size, passed=False, reason=str(error)), None
    scores = exam.evaluation(replace(result, compression=None))  # which the report of the checkpoint has
    numbers: dict[str, Any] = {key: getattr(result, key) for key in ("score", "drop", "se", "recovery")}
    layers = result.compression.layers if result.compression else []
    saved = sum(layer.bytes_before - layer.bytes_after for layer in layers)
    reason = "; ".join(_of_task(scores.failures))
    return Trial(size, not reason, tensor_bytes(exam.model) - saved, reason=reason, **numbers), scores


def _of_task(failures: Sequence[str]) -> Sequence[str]:
    """Leave out what is said of the average, if it is said of its only task too."""
    return [line for line in failures if not line.startswith(AVERAGE)] or failures
