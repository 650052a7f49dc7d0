"""Scores of one model before and after it is compressed in place, for `compress --eval-glue`."""

from contextlib import nullcontext

from lpcompress import hub
from lpcompress.config.scoring import HUB, Scoring
from lpcompress.errors import PlanError
from lpcompress.evaluation.attempts import AS_IS
from lpcompress.evaluation.comparison import refuse_unknown
from lpcompress.evaluation.evaluation import Evaluation
from lpcompress.evaluation.examination import Examination
from lpcompress.evaluation.gates import Gates
from lpcompress.evaluation.setup import Setup
from lpcompress.glue.tasks import TASKS, chosen
from lpcompress.processes import Workers
from lpcompress.progress import Progress


class BeforeAfter:
    """Scores of one model before and after it is compressed in place.

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

    Attributes
    ----------
    model, tokenizer
        The loaded model and tokenizer.

    Raises
    ------
    PlanError
        If `task` is not one of the nine tasks, or a value of `scoring` is invalid.
    """

    def __init__(self, model: str, task: str, scoring: Scoring, *, workers: Workers, progress: Progress) -> None:
        tasks = chosen(task)
        if len(tasks) > 1 or tasks[0].key not in TASKS:
            raise PlanError(f"task must be one of {', '.join(TASKS)}: one model is scored on one task. Got {task!r}.")
        refuse_unknown(scoring.primary)
        Gates.of(scoring)  # raises before any work
        self._name, self._task = model, tasks[0]
        self._setup = Setup(workers, scoring, progress=progress)
        self._exam = Examination(self._task, model, self._setup)
        with nullcontext() if scoring.data != HUB else hub.asked_once():
            self._plain = self._exam.plain()
        self.model, self.tokenizer = self._exam.classifier.model, self._exam.classifier.tokenizer

    def after(self) -> Evaluation:
        """Score the model in its current state and compare it with its first scores."""
        outcome = self._exam.outcome(self.model, lambda _: self._plain.labels, name="compressed")
        results = {AS_IS: {self._task.key: self._exam.compared(outcome, self._plain)}}
        return Evaluation.of(self._name, self._name, results, self._setup, {})
