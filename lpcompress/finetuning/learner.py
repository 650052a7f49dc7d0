"""A classifier and its training loss, with or without a teacher."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpcompress.config.recipe import Recipe


@dataclass(frozen=True)
class Teacher:
    """A teacher model for distillation.

    Attributes
    ----------
    model : PreTrainedModel
    outputs : list of int
        Entry i is the number of the teacher's output that means the same as output i of the student.
    """

    model: Any
    outputs: list[int]


class Learner(nn.Module):
    """A classifier with its training loss, in the form that transformers' Trainer expects.

    The loss is cross entropy, or squared error for a regression. With a teacher it is (1 - soft) * that loss + soft *
    divergence from the teacher's logits + hidden * relative squared distance of the hidden states. The last term is
    used only between models of the same sizes.

    Parameters
    ----------
    model : PreTrainedModel
    recipe : Recipe
    teacher : Teacher, optional
    """

    def __init__(self, model: Any, recipe: Recipe, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.teachers = [teacher] if teacher else []  # in a list, so that it is not a submodule
        self.follows_hidden = teacher is not None and recipe.hidden > 0 and same_sizes(model, teacher.model)

    def forward(self, labels: Tensor, **features: Tensor) -> dict[str, Tensor]:
        """Return the mean loss and the logits of a batch: `labels` (rows,), tokenizer features (rows, length)."""
        output = call(self.model, features, self.follows_hidden)
        if output.logits.shape[-1] == 1:
            loss = functional.mse_loss(output.logits.squeeze(-1), labels.to(output.logits.dtype))
        else:
            loss = functional.cross_entropy(output.logits, labels)
        for teacher in self.teachers:
            with torch.no_grad():
                example = call(teacher.model.eval(), features, self.follows_hidden)
            logits = example.logits[..., teacher.outputs]
            soft = divergence(output.logits, logits, self.recipe.temperature)
            loss = (1 - self.recipe.soft) * loss + self.recipe.soft * soft
            if self.follows_hidden:
                distance = hidden_distance(output.hidden_states, example.hidden_states, features["attention_mask"])
                loss = loss + self.recipe.hidden * distance
        return {"loss": loss, "logits": output.logits}


def call(model: Any, features: Mapping[str, Tensor], hidden: bool) -> Any:
    """Return the output of a model, given only the features that its `forward` accepts."""
    known = inspect.signature(model.forward).parameters
    return model(**{key: value for key, value in features.items() if key in known}, output_hidden_states=hidden)


def divergence(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(target || ours) of the softened classes, averaged over rows; with one output, the squared error.

    Parameters
    ----------
    logits, target : Tensor of shape (rows, outputs)
    temperature : float
        T, the divisor of both.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> divergence(logits, logits, temperature=2.0).item(), divergence(logits, logits.flip(1), 2.0).item() > 0
    (0.0, True)

    References
    ----------
    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015: T^2 keeps the size of the gradients.
    """
    if logits.shape[-1] == 1:
        return functional.mse_loss(logits, target)
    ours, theirs = (functional.log_softmax(each / temperature, dim=-1) for each in (logits, target))
    return temperature**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def hidden_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Return sum |ours - theirs|^2 / sum |theirs|^2 over unmasked tokens, averaged over layers.

    Computed in single precision: a sum of squares overflows half precision.

    Parameters
    ----------
    ours, theirs : sequence of Tensor of shape (rows, length, width)
        Hidden states, one tensor per layer.
    mask : Tensor of shape (rows, length)
        1 for tokens, 0 for padding.
    """
    weights = mask.unsqueeze(-1)
    shares = [
        ((own.float() - other.float()).square() * weights).sum() / (other.float().square() * weights).sum()
        for own, other in zip(ours, theirs, strict=True)
    ]
    return torch.stack(shares).mean()


def same_sizes(model: Any, teacher: Any) -> bool:
    """Return whether the hidden states of two models can be compared layer by layer."""
    return all(
        getattr(model.config, name, None) == getattr(teacher.config, name, None)
        for name in ("model_type", "num_hidden_layers", "hidden_size")
    )
