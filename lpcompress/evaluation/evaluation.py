"""Results of a whole evaluation, and the JSON document made from them, which scripts rely on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Self

from lpcompress.config.origin import Origin
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
    """Results of one method, or of models that are only scored.

    Attributes
    ----------
    plan : Plan or None
        How the models were compressed here; None if they were only scored.
    tasks : mapping of str to TaskResult
        By task key, in the order of the report.
    mean, without_wnli : Average
        Over all scored tasks, and without WNLI, on which nearly every model predicts the majority class.
    failures : list of str
        One sentence for each failed gate.
    """

    plan: Plan | None
    tasks: Mapping[str, TaskResult]
    mean: Average
    without_wnli: Average
    failures: list[str]

    @classmethod
    def of(cls, plan: Plan | None, tasks: Mapping[str, TaskResult], scoring: Scoring) -> Self:
        """Average the results and check them against the gates."""
        mean, rest = (average(tasks, scoring.primary, without) for without in (None, WNLI))
        return cls(plan, tasks, mean, rest, Gates.of(scoring).failures(tasks, mean))

    @property
    def failed(self) -> bool:
        """Whether a task failed."""
        return any(result.status == FAILED for result in self.tasks.values())


@dataclass(frozen=True)
class Evaluation:
    """Results of `eval_glue`.

    Attributes
    ----------
    model : str
        Hub id, directory, template or YAML file.
    baseline : str or None
        In the same forms; equal to `model` if it was compressed here, None if nothing was compared.
    origin : Origin
        Which version of the model.
    scoring : Scoring
    device : str
        Type of the device that the models ran on, such as `cpu`.
    methods : mapping of str to Scores
        By method name; a single entry if there are no methods to compare.
    versions : mapping of str to str
        Of the packages that the numbers may depend on.
    date : str
        End of the run in UTC, ISO 8601.
    """

    model: str
    baseline: str | None
    origin: Origin
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
        """Average the results, given by plan name and task key, and check them against the gates."""
        methods = {name: Scores.of(plans.get(name), found, setup.scoring) for name, found in results.items()}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        device = setup.workers.device.type
        return cls(model, baseline, setup.origin, setup.scoring, device, methods, versions(), date)

    @property
    def first(self) -> Scores:
        """The scores of the first or only method."""
        return next(iter(self.methods.values()))

    @property
    def failed(self) -> bool:
        """Whether a task failed with any method."""
        return any(scores.failed for scores in self.methods.values())

    @cached_property
    def failures(self) -> list[str]:
        """One sentence for each failed gate, after the method's name if there are several."""
        several = len(self.methods) > 1
        return [
            f"{name} {line}" if several else line for name, scores in self.methods.items() for line in scores.failures
        ]

    def document(self) -> dict[str, Any]:
        """Return the document that `eval-glue --json` prints.

        The numbers of a single method are at the top level, as in the README. Those of several methods are under
        `methods`, by name; values that they share are at the top level. All numbers except `seconds` and `date` depend
        only on models, data and settings.
        """
        about = {"versions": dict(self.versions), "date": self.date}
        settings = self._settings()
        head: dict[str, Any] = {"model": self.model, "baseline": self.baseline}
        head |= {"origin": self.origin.given()} if self.origin.given() else {}
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
        """Return the settings that the numbers depend on, besides models and plans."""
        asked = self.scoring.model_dump(mode="json", include={"data", "limit", "batch_size", "label_map", "primary"})
        asked |= {"max_length": MAX_LENGTH, "resamples": RESAMPLES, "seed": self.scoring.seed, "device": self.device}
        return asked


def _entry(result: TaskResult, plan: dict[str, Any] | None) -> dict[str, Any]:
    """Return a task's entry, with the plan in its compression record."""
    entry = result.entry()
    if entry.get("compression"):
        entry["compression"] = {"plan": plan, **entry["compression"]}
    return entry
