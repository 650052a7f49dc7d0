"""A model, the rows it is trained on, and what it is to make of them."""

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
    """A model, the rows it is trained on, and what it is to make of them.

    Attributes
    ----------
    classifier : Classifier
    rows : Rows
        With labels.
    labels : LabelMap
        What the model's outputs mean.
    recipe : Recipe
    teacher : Teacher or None
    """

    classifier: Classifier
    rows: Rows
    labels: LabelMap
    recipe: Recipe
    teacher: Teacher | None

    def settings(self, teacher: str | None, processes: int) -> dict[str, Any]:
        """Return what the trained weights depend on: a resumed run must have the same.

        Parameters
        ----------
        teacher : str or None
            The teacher's fingerprint.
        processes : int
            How many share each batch.
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
        """Train the model in place, in single precision; `state` is the directory for what a run is resumed from."""
        model, dtype, labels = self.classifier.model, self.classifier.model.dtype, self.labels
        model.float()
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        learner = Learner(model, self.recipe, self.teacher)
        examples = Examples(encode(self.classifier.tokenizer, self.rows, self.recipe.batch_size), self._targets())
        loss = train(learner, examples, state, setup.workers.device, setup.progress)
        model.to(setup.workers.device, dtype).eval()
        if labels.order:  # so that nothing need be probed: a compressed model must not be
            model.config.id2label = {i: self.rows.task.classes[label] for i, label in enumerate(labels.order)}
            model.config.label2id = {name: i for i, name in model.config.id2label.items()}
        return Trained(train_loss=loss, trained_parameters=trained, follows_hidden_states=learner.follows_hidden)

    @property
    def diverged(self) -> bool:
        """Whether training has made a weight NaN or infinite."""
        return not all(bool(parameter.isfinite().all()) for parameter in self.classifier.model.parameters())

    def score(self, setup: Setup) -> float:
        """Return the score on the training rows, in points."""
        encoded = encode(self.classifier.tokenizer, self.rows, setup.scoring.batch_size)
        values = logits(self.classifier.model, encoded, setup.workers)
        return score(compute(self.rows.task, self.labels.predictions(values), np.asarray(self.rows.labels)))

    def _targets(self) -> np.ndarray:
        """Return the output (n,) that stands for each row's class, or the values of a regression."""
        values = np.asarray(self.rows.labels)
        return np.argsort(self.labels.order)[values] if self.labels.order else values


def teacher_of(guide: Classifier, meant: LabelMap, student: Classifier, labels: LabelMap) -> Teacher:
    """Return a teacher with its outputs in the student's order.

    Parameters
    ----------
    guide, student : Classifier
    meant, labels : LabelMap
        What the outputs of either mean.

    Raises
    ------
    LpCompressError
        If their tokenizers differ.
    """
    if guide.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise LpCompressError(
            f"{guide.name}: a teacher must have the tokenizer of {student.name}. Name what it was made from."
        )
    outputs = [meant.order.index(label) for label in labels.order] if meant.order and labels.order else [0]
    return Teacher(guide.model.float(), outputs)
