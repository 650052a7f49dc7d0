"""The record of a fine-tuning run."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lpcompress.presentation import points, published


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Result of training.

    Attributes
    ----------
    train_loss : float
        Mean loss of the batches.
    trained_parameters : int
        Number of parameters that were not frozen.
    follows_hidden_states : bool
        Whether the loss included the teacher's hidden states, besides its logits.
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
        The model that was trained, its GLUE task, and the directory of the checkpoint. In the file, `./` and the last
        part of local paths.
    head : str
        "kept", or "new" if the model had none.
    distill : str or None
        The teacher.
    n : int
        Number of rows of the development set that both models were scored on.
    metrics, score
        Of the trained model.
    score_before, metrics_before
        Of the model before training; None with a new head.
    gain, se : float or None
        Score after minus score before, and its standard error.
    teacher_score : float or None
    train_score : float
        On the training rows, to choose between runs without looking at other rows.
    trained : Trained
    settings : dict
        Everything that the trained weights depend on.
    versions : dict of str to str
        Of the packages that the numbers may depend on.
    seconds : float
    origin : dict of str to str
        `revision` and `subfolder` of the model, if they were given.
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
    origin: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return what `finetune --json` prints and writes; the fields of `trained` are at its top level."""
        document = published(asdict(self))
        return document | document.pop("trained")

    @property
    def sentence(self) -> str:
        """A summary of the run and its scores."""
        teacher = f" with the teacher `{Path(self.distill).name}`" if self.distill else ""
        settings, steps = self.settings, f"{self.settings['epochs']:g} epochs"
        if settings["max_steps"]:
            steps = f"{settings['max_steps']:,} steps"
        start = "with a new head" if self.score_before is None else f"from a score of {points(self.score_before)}"
        return (
            f"Fine-tuned on {settings['train_rows']:,} rows of GLUE's {self.task} ({settings['split']}){teacher} for"
            f" {steps}, {start}: {points(self.score)} points on {self.n:,} rows of the development set."
        )
