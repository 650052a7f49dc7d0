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
    """A model to follow.

    Attributes
    ----------
    model : PreTrainedModel
    outputs : list of int
        Number of its output that means what output i of the student means.
    """

    model: Any
    outputs: list[int]


class Learner(nn.Module):
    """A classifier and its loss, as the Trainer wants it.

    With a teacher the loss is (1 - soft) * cross entropy + soft * divergence from the teacher's logits + hidden *
    relative squared distance of the hidden states, the last only between models of the same sizes.

    Parameters
    ----------
    model : PreTrainedModel
    recipe : Recipe
    teacher : Teacher, optional
    """

    def __init__(self, model: Any, recipe: Recipe, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.teachers = [teacher] if teacher else []  # in a list, so that it is no part of this module
        self.follows_hidden = teacher is not None and recipe.hidden > 0 and same_sizes(model, teacher.model)

    def forward(self, labels: Tensor, **features: Tensor) -> dict[str, Tensor]:
        """Return the mean loss of a batch: `labels` (rows,), features as the tokenizer's (rows, length)."""
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
    """Return the output of a model for those of the features that it knows."""
    known = inspect.signature(model.forward).parameters
    return model(**{key: value for key, value in features.items() if key in known}, output_hidden_states=hidden)


def divergence(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(wanted || ours) of the softened classes, the mean over rows; squared distance for one output.

    Parameters
    ----------
    logits, wanted : Tensor of shape (rows, outputs)
    temperature : float
        T, by which both are divided.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> divergence(logits, logits, temperature=2.0).item(), divergence(logits, logits.flip(1), 2.0).item() > 0
    (0.0, True)

    References
    ----------
    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015: T^2 keeps the gradients' size.
    """
    if logits.shape[-1] == 1:
        return functional.mse_loss(logits, wanted)
    ours, theirs = (functional.log_softmax(each / temperature, dim=-1) for each in (logits, wanted))
    return temperature**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def hidden_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Return sum |ours - theirs|^2 / sum |theirs|^2 over the tokens that `mask` (rows, length) has, mean of layers.

    In single precision: a sum of squares overflows half precision.
    """
    weights = mask.unsqueeze(-1)
    shares = [
        ((own.float() - other.float()).square() * weights).sum() / (other.float().square() * weights).sum()
        for own, other in zip(ours, theirs, strict=True)
    ]
    return torch.stack(shares).mean()


def same_sizes(model: Any, teacher: Any) -> bool:
    """Tell whether the hidden states of two models can be compared one by one."""
    return all(
        getattr(model.config, name, None) == getattr(teacher.config, name, None)
        for name in ("model_type", "num_hidden_layers", "hidden_size")
    )
