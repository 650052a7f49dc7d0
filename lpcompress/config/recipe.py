"""Options for fine-tuning."""

from typing import Annotated

from pydantic import Field

from lpcompress.config.options import OneOf, Options, Shown

PRECISIONS = ("no", "bf16", "fp16")
TRAINING, DISTILLATION = "How to train", "Distillation"  # groups of the command line's help


class Recipe(Options):
    """Options for fine-tuning. The field descriptions are the help text of `lpcompress finetune`.

    Raises
    ------
    PlanError
        If a value is invalid or a key is unknown.

    Examples
    --------
    >>> Recipe(epochs=3).batch_size
    32
    """

    epochs: Annotated[
        float,
        Field(gt=0, strict=True, allow_inf_nan=False, description="Passes over the training rows"),
        Shown(TRAINING),
    ] = 2.0
    max_steps: Annotated[
        int | None,
        Field(ge=1, strict=True, description="Number of training steps, whatever the epochs"),
        Shown(TRAINING, default="as many as the epochs need"),
    ] = None
    learning_rate: Annotated[
        float,
        Field(
            gt=0,
            strict=True,
            allow_inf_nan=False,
            description="Peak learning rate (linear warm-up for a tenth of the run, then decay to 0)",
        ),
        Shown(TRAINING),
    ] = 5e-5
    batch_size: Annotated[
        int, Field(ge=1, strict=True, description="Rows per batch in each process"), Shown(TRAINING)
    ] = 32
    freeze: Annotated[
        tuple[str, ...],
        Field(
            description="Wildcard for modules and parameters to freeze, or a word such as embedding or ffn; repeatable"
        ),
        Shown(TRAINING, metavar="PATTERN"),
    ] = ()
    mixed_precision: Annotated[
        str, OneOf(PRECISIONS), Field(description="Mixed precision for matrix products"), Shown(TRAINING)
    ] = "no"
    split: Annotated[str, Field(description="Split to train on"), Shown(TRAINING)] = "train"
    train_limit: Annotated[
        int | None,
        Field(ge=1, strict=True, description="Maximum number of training rows"),
        Shown(TRAINING, default="all"),
    ] = None
    seed: Annotated[
        int,
        Field(ge=0, le=2**32 - 1, strict=True, description="Random seed of a new head, the order of rows and dropout"),
        Shown(TRAINING),
    ] = 0
    soft: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            strict=True,
            allow_inf_nan=False,
            description="Weight of the divergence from the teacher's logits in the loss (the labels get the rest)",
        ),
        Shown(DISTILLATION),
    ] = 0.5
    temperature: Annotated[
        float,
        Field(
            gt=0,
            strict=True,
            allow_inf_nan=False,
            description="Temperature that divides both models' logits in the divergence",
        ),
        Shown(DISTILLATION),
    ] = 2.0
    hidden: Annotated[
        float,
        Field(
            ge=0,
            strict=True,
            allow_inf_nan=False,
            description="Weight of the relative squared distance from the hidden states of a same-size teacher",
        ),
        Shown(DISTILLATION),
    ] = 1.0
