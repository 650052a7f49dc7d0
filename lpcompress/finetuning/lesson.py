"""A model, its training rows, and how to train it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpcompress.config.recipe import Recipe
from lpcompress.errors import LpCompressError
from lpcompress.evaluation.classifier import Classifier
from lpcompress.evaluation.prediction import encode, logits
from lpcompress.evaluation.setup import Setup
from lpcompress.finetuning.learner import Learner, Teacher
from lpcompress.finetuning.record import Trained
from lpcompress.finetuning.training import Examples, train
from lpcompress.glue.data import Rows
from lpcompress.glue.labels import LabelMap
from lpcompress.glue.metrics import compute, score


@dataclass(frozen=True)
class Lesson:
    """A model, its training rows, and how to train it.

    Attributes
    ----------
    classifier : Classifier
    rows : Rows
        The training rows, with labels.
    labels : LabelMap
        Meaning of the model's outputs.
    recipe : Recipe
    teacher : Teacher or None
    """

    classifier: Classifier
    rows: Rows
    labels: LabelMap
    recipe: Recipe
    teacher: Teacher | None

    def settings(self, teacher: str | None, processes: int) -> dict[str, Any]:
        """Return everything that the trained weights depend on; a resumed run must have the same.

        Parameters
        ----------
        teacher : str or None
            The teacher's fingerprint.
        processes : int
            Number of training processes.
        """
        return self.recipe.model_dump(exclude={"train_limit"}) | {
            "freeze": list(self.recipe.freeze),
            "task": self.rows.task.key,
            "split": self.rows.split,
            "train_rows": len(self.rows),
            "data": self.rows.fingerprint,
            "model": self.classifier.fingerprint,
            "outputs": list(self.labels.order) if self.labels.order else None,
            "teacher": teacher,
            "processes": processes,
        }

    def train(self, state: Path, setup: Setup) -> Trained:
        """Train the model in place, in single precision; `state` is the directory that a run is resumed from."""
        model, dtype, labels = self.classifier.model, self.classifier.model.dtype, self.labels
        model.float()
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        learner = Learner(model, self.recipe, self.teacher)
        examples = Examples(encode(self.classifier.tokenizer, self.rows, self.recipe.batch_size), self._targets())
        loss = train(learner, examples, state, setup.workers.device, setup.progress)
        model.to(setup.workers.device, dtype).eval()
        if labels.order:  # names make a probe unnecessary: a compressed model must not be probed
            model.config.id2label = {i: self.rows.task.classes[label] for i, label in enumerate(labels.order)}
            model.config.label2id = {name: i for i, name in model.config.id2label.items()}
        return Trained(train_loss=loss, trained_parameters=trained, follows_hidden_states=learner.follows_hidden)

    @property
    def diverged(self) -> bool:
        """Whether training made a weight NaN or infinite."""
        return not all(bool(parameter.isfinite().all()) for parameter in self.classifier.model.parameters())

    def score(self, setup: Setup) -> float:
        """Return the score on the training rows, in points."""
        encoded = encode(self.classifier.tokenizer, self.rows, setup.scoring.batch_size)
        values = logits(self.classifier.model, encoded, setup.workers)
        return score(compute(self.rows.task, self.labels.predictions(values), np.asarray(self.rows.labels)))

    def _targets(self) -> np.ndarray:
        """Return the number of each row's correct output, or its regression value, of shape (n,)."""
        values = np.asarray(self.rows.labels)
        return np.argsort(self.labels.order)[values] if self.labels.order else values


def teacher_of(guide: Classifier, guide_labels: LabelMap, student: Classifier, labels: LabelMap) -> Teacher:
    """Return `guide` as a teacher, with its outputs in the student's order.

    Parameters
    ----------
    guide, student : Classifier
    guide_labels, labels : LabelMap
        Meaning of the outputs of the guide and of the student.

    Raises
    ------
    LpCompressError
        If their tokenizers differ.
    """
    if guide.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise LpCompressError(
            f"{guide.name}: a teacher must have the same tokenizer as {student.name}. Give the model that the student"
            " was made from."
        )
    theirs, ours = guide_labels.order, labels.order
    outputs = [theirs.index(label) for label in ours] if theirs and ours else [0]
    return Teacher(guide.model.float(), outputs)
