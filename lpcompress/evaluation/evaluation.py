"""A whole evaluation, from the engine to the report; the JSON that others script against is made of it here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Self

from lpcompress.config.plan import Plan
from lpcompress.config.scoring import Scoring
from lpcompress.evaluation.averages import Average, average
from lpcompress.evaluation.gates import Gates
from lpcompress.evaluation.prediction import MAX_LENGTH
from lpcompress.evaluation.results import FAILED, TaskResult
from lpcompress.evaluation.setup import Setup
from lpcompress.glue.statistics import RESAMPLES
from lpcompress.glue.tasks import WNLI
from lpcompress.version import versions

CAPTION = "without fine-tuning"


@dataclass(frozen=True)
class Scores:
    """The results of one method, or of models that are scored as they stand.

    Attributes
    ----------
    plan : Plan or None
        How the models were compressed here.
    tasks : mapping of str to TaskResult
        In the order in which they are listed.
    mean, without_wnli : Average
        Over the tasks that were scored; without WNLI, on which nearly every model gives the majority class.
    failures : list of str
        A sentence for each gate that is not passed.
    """

    plan: Plan | None
    tasks: Mapping[str, TaskResult]
    mean: Average
    without_wnli: Average
    failures: list[str]

    @classmethod
    def of(cls, plan: Plan | None, tasks: Mapping[str, TaskResult], scoring: Scoring) -> Self:
        """Average results and hold them against the gates."""
        mean, rest = (average(tasks, scoring.primary, without) for without in (None, WNLI))
        return cls(plan, tasks, mean, rest, Gates.of(scoring).failures(tasks, mean))

    @property
    def failed(self) -> bool:
        """Whether a task failed."""
        return any(result.status == FAILED for result in self.tasks.values())


@dataclass(frozen=True)
class Evaluation:
    """What `eval_glue` found.

    Attributes
    ----------
    model : str
        Hub id, directory, template or YAML file.
    baseline : str or None
        Of the same kinds; `model` itself where it was compressed here.
    scoring : Scoring
    device : str
        Kind of device that the models ran on.
    methods : mapping of str to Scores
        By method; a single entry where there is nothing to compare.
    versions : mapping of str to str
        Of the packages that numbers may depend on.
    date : str
        When it ended, ISO 8601.
    """

    model: str
    baseline: str | None
    scoring: Scoring
    device: str
    methods: Mapping[str, Scores]
    versions: Mapping[str, str]
    date: str

    @classmethod
    def of(
        cls,
        model: str,
        baseline: str | None,
        results: Mapping[str, Mapping[str, TaskResult]],
        setup: Setup,
        plans: Mapping[str, Plan],
    ) -> Self:
        """Average the results, by name of the plan (or of none) and task, and hold them against the gates."""
        methods = {name: Scores.of(plans.get(name), found, setup.scoring) for name, found in results.items()}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(model, baseline, setup.scoring, setup.workers.device.type, methods, versions(), date)

    @property
    def first(self) -> Scores:
        """The scores of the first method, or the only ones."""
        return next(iter(self.methods.values()))

    @property
    def failed(self) -> bool:
        """Whether a task failed with any method."""
        return any(scores.failed for scores in self.methods.values())

    @cached_property
    def failures(self) -> list[str]:
        """A sentence for each gate that is not passed, under the method's name if there are several."""
        several = len(self.methods) > 1
        return [
            f"{name} {line}" if several else line for name, scores in self.methods.items() for line in scores.failures
        ]

    def document(self) -> dict[str, Any]:
        """Return what `eval-glue --json` prints.

        One method's numbers stand at the top, as in the README. Those of several stand under `methods`, by name, and
        what they share at the top. Numbers depend on models, data and settings alone, but for `seconds` and `date`.
        """
        about = {"versions": dict(self.versions), "date": self.date}
        settings = self._settings()
        head: dict[str, Any] = {"model": self.model, "baseline": self.baseline}
        if len(self.methods) == 1:
            numbers = self._numbers(self.first)
            numbers["settings"] = settings | numbers["settings"]
            return head | numbers | {"caption": CAPTION} | about
        head |= {"caption": CAPTION, "gates": self._gates(self.failures), "settings": settings} | about
        return head | {"methods": {name: self._numbers(scores) for name, scores in self.methods.items()}}

    def _numbers(self, scores: Scores) -> dict[str, Any]:
        """Return the part of the document that differs between methods."""
        plan = scores.plan.model_dump(mode="json") if scores.plan else None
        mean = asdict(scores.mean)
        del mean["tasks"]
        return {
            **mean,
            "without_wnli": asdict(scores.without_wnli),
            "tasks": {key: _entry(result, plan) for key, result in scores.tasks.items()},
            "gates": self._gates(scores.failures),
            "settings": {"compression": plan},
        }

    def _gates(self, failures: list[str]) -> dict[str, Any] | None:
        gates = Gates.of(self.scoring)
        return {**asdict(gates), "passed": not failures, "failures": list(failures)} if gates else None

    def _settings(self) -> dict[str, Any]:
        """Return what the numbers depend on besides models and plans."""
        asked = self.scoring.model_dump(mode="json", include={"data", "limit", "batch_size", "label_map", "primary"})
        asked |= {"max_length": MAX_LENGTH, "resamples": RESAMPLES, "seed": self.scoring.seed, "device": self.device}
        return asked


def _entry(result: TaskResult, plan: dict[str, Any] | None) -> dict[str, Any]:
    """Return a task's entry, the plan beside what came of it."""
    entry = result.entry()
    if entry.get("compression"):
        entry["compression"] = {"plan": plan, **entry["compression"]}
    return entry
