"""What a fine-tuning run did, from the engine to the report."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpcompress.presentation import points


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training came to.

    Attributes
    ----------
    train_loss : float
        Mean over the batches.
    trained_parameters : int
        Numbers that were not frozen.
    follows_hidden_states : bool
        Whether the teacher's hidden states were followed, and not its logits alone.
    """

    train_loss: float
    trained_parameters: int
    follows_hidden_states: bool


@dataclass(frozen=True, kw_only=True)
class Record:
    """The content of `finetuning.json`. Metrics and scores are in points.

    Attributes
    ----------
    model, task, out : str
        What was trained, on which of GLUE's tasks, and where the checkpoint is.
    head : str
        "kept", or "new" where the model had none.
    distill : str or None
        The teacher.
    n : int
        Rows of the development set, on which both models were scored.
    metrics, score
        Of the trained model.
    score_before, metrics_before
        Of the model as it was; None with a new head.
    gain, se : float or None
        Score after minus score before, and its standard error.
    teacher_score : float or None
    train_score : float
        On the training rows, by which runs can be chosen without a look at others.
    trained : Trained
    settings : dict
        What the trained weights depend on.
    versions : dict of str to str
        Of the packages that numbers may depend on.
    seconds : float
    """

    model: str
    task: str
    out: str
    head: str
    distill: str | None
    n: int
    metrics: dict[str, float]
    score: float | None
    score_before: float | None
    metrics_before: dict[str, float] | None
    gain: float | None
    se: float | None
    teacher_score: float | None
    train_score: float
    trained: Trained
    settings: dict[str, Any]
    versions: dict[str, str]
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return what `finetune --json` prints; what training came to stands beside the rest."""
        document = asdict(self)
        return document | document.pop("trained")

    @property
    def sentence(self) -> str:
        """What was done and what it came to."""
        teacher = f", following `{Path(self.distill).name}`," if self.distill else ""
        settings, steps = self.settings, f"{self.settings['epochs']:g} epochs"
        if settings["max_steps"]:
            steps = f"{settings['max_steps']:,} steps"
        start = "with a new head" if self.score_before is None else f"from a score of {points(self.score_before)}"
        return (
            f"Fine-tuned on {settings['train_rows']:,} rows of GLUE's {self.task} ({settings['split']}){teacher} for"
            f" {steps}, {start}: {points(self.score)} points on {self.n:,} rows of the development set."
        )
