"""The scores of one model before and after it is compressed in place, as `compress --eval-glue` needs them."""

from contextlib import nullcontext

from lpcompress import hub
from lpcompress.config.scoring import Scoring
from lpcompress.errors import PlanError
from lpcompress.evaluation.attempts import ITSELF
from lpcompress.evaluation.comparison import refuse_unknown
from lpcompress.evaluation.evaluation import Evaluation
from lpcompress.evaluation.examination import Examination
from lpcompress.evaluation.gates import Gates
from lpcompress.evaluation.setup import Setup
from lpcompress.glue.data import HUB
from lpcompress.glue.tasks import TASKS, chosen
from lpcompress.processes import Workers
from lpcompress.progress import Progress


class BeforeAfter:
    """The scores of one model before and after it is compressed in place.

    The model is loaded and scored as it stands when this is made.

    Parameters
    ----------
    model : str
        Hub id or directory, fine-tuned on the task.
    task : str
    scoring : Scoring
    workers : Workers
        Each of them makes one of these.
    progress : Progress

    Attributes
    ----------
    model, tokenizer
        What was loaded.

    Raises
    ------
    PlanError
        If `task` is not one of the nine, or `scoring` is not for it.
    """

    def __init__(self, model: str, task: str, scoring: Scoring, *, workers: Workers, progress: Progress) -> None:
        tasks = chosen(task)
        if len(tasks) > 1 or tasks[0].key not in TASKS:
            raise PlanError(f"one model is scored on one task, one of {', '.join(TASKS)}. Got {task!r}.")
        refuse_unknown(scoring.primary)
        Gates.of(scoring)  # refused before any work
        self._name, self._task = model, tasks[0]
        self._setup = Setup(workers, scoring, progress=progress)
        self._exam = Examination(self._task, model, self._setup)
        with nullcontext() if scoring.data != HUB else hub.asked_once():
            self._plain = self._exam.plain()
        self.model, self.tokenizer = self._exam.classifier.model, self._exam.classifier.tokenizer

    def after(self) -> Evaluation:
        """Score the model as it is now, and compare."""
        outcome = self._exam.outcome(self.model, lambda _: self._plain.labels, name="compressed")
        results = {ITSELF: {self._task.key: self._exam.compared(outcome, self._plain)}}
        return Evaluation.of(self._name, self._name, results, self._setup, {})
