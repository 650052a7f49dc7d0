"""Scores of one model before and after it is compressed, for `compress --eval-glue`."""

from contextlib import nullcontext

from lpcompress import hub
from lpcompress.config.plan import Plan
from lpcompress.config.scoring import HUB, Scoring
from lpcompress.errors import PlanError
from lpcompress.evaluation.attempts import AS_IS
from lpcompress.evaluation.comparison import refuse_unknown
from lpcompress.evaluation.evaluation import Evaluation
from lpcompress.evaluation.examination import Examination
from lpcompress.evaluation.gates import Gates
from lpcompress.evaluation.results import Outcome, TaskResult
from lpcompress.evaluation.setup import Setup, run_context
from lpcompress.evaluation.store import Store
from lpcompress.evaluation.variants import variant_of
from lpcompress.glue.tasks import TASKS, chosen
from lpcompress.processes import Workers
from lpcompress.progress import Progress


class BeforeAfter:
    """Scores of one model before and after it is compressed.

    The constructor loads the model and scores it.

    Parameters
    ----------
    model : str
        Hub id or directory, fine-tuned on the task.
    task : str
    scoring : Scoring
    workers : Workers
        Each worker process must construct its own instance.
    progress : Progress
    store : Store, optional
        Where the scores of the model and of its variants are kept for a resumed run.

    Attributes
    ----------
    model, tokenizer
        The loaded model and tokenizer.

    Raises
    ------
    PlanError
        If `task` is not one of the nine tasks, or a value of `scoring` is invalid.
    """

    def __init__(
        self,
        model: str,
        task: str,
        scoring: Scoring,
        *,
        workers: Workers,
        progress: Progress,
        store: Store[Outcome] | None = None,
    ) -> None:
        tasks = chosen(task)
        if len(tasks) > 1 or tasks[0].key not in TASKS:
            raise PlanError(f"task must be one of {', '.join(TASKS)}: one model is scored on one task. Got {task!r}.")
        refuse_unknown(scoring.primary)
        Gates.of(scoring).refuse_idle(tasks[0].key)  # before any work
        self._name, self._task = model, tasks[0]
        self._setup = Setup(workers, scoring, store, run_context(), progress)
        self._exam = Examination(self._task, model, self._setup)
        with nullcontext() if scoring.data != HUB else hub.asked_once():
            self._plain = self._exam.plain()
        self.model, self.tokenizer = self._exam.classifier.model, self._exam.classifier.tokenizer

    def after(self) -> Evaluation:
        """Score the model in its current state, compressed in place, and compare it with its first scores."""
        outcome = self._exam.outcome(self.model, lambda _: self._plain.labels, name="compressed")
        return self.evaluation(self._exam.compared(outcome, self._plain))

    def of_plan(self, name: str, plan: Plan) -> TaskResult:
        """Score a copy of the model, compressed as planned; the model stays as it is.

        Parameters
        ----------
        name : str
            Name of the copy in progress messages.
        plan : Plan
        """
        return self._exam.variant(variant_of(name, plan, self._setup), self._plain)

    def evaluation(self, result: TaskResult) -> Evaluation:
        """Return a result as an evaluation, with its gates."""
        return Evaluation.of(self._name, self._name, {AS_IS: {self._task.key: result}}, self._setup, {})
