"""How to fine-tune."""

from typing import Annotated

from pydantic import Field

from lpcompress.config.options import OneOf, Options, Shown

PRECISIONS = ("no", "bf16", "fp16")
TRAINING, DISTILLATION = "How to train", "Distillation"  # groups of the command line's help


class Recipe(Options):
    """How to train. The fields' descriptions are the help of `lpcompress finetune`.

    Raises
    ------
    PlanError
        If a value makes no sense or a key is unknown.

    Examples
    --------
    >>> Recipe(epochs=3).batch_size
    32
    """

    epochs: Annotated[
        float,
        Field(gt=0, strict=True, allow_inf_nan=False, description="How often each row is seen"),
        Shown(TRAINING),
    ] = 2.0
    max_steps: Annotated[
        int | None,
        Field(ge=1, strict=True, description="Number of batches to train on, whatever the epochs"),
        Shown(TRAINING, default="as many as the epochs need"),
    ] = None
    learning_rate: Annotated[
        float,
        Field(
            gt=0,
            strict=True,
            allow_inf_nan=False,
            description="Peak learning rate; rises for a tenth of the run, then falls to 0",
        ),
        Shown(TRAINING),
    ] = 5e-5
    batch_size: Annotated[
        int, Field(ge=1, strict=True, description="Rows of a batch, in each process"), Shown(TRAINING)
    ] = 32
    freeze: Annotated[
        tuple[str, ...],
        Field(description="Wildcards over modules and parameters not to train, or words as for layers; repeatable"),
        Shown(TRAINING, metavar="PATTERN"),
    ] = ()
    mixed_precision: Annotated[
        str, OneOf(PRECISIONS), Field(description="Precision of the products"), Shown(TRAINING)
    ] = "no"
    split: Annotated[str, Field(description="Split whose rows are trained on"), Shown(TRAINING)] = "train"
    train_limit: Annotated[
        int | None,
        Field(ge=1, strict=True, description="Only so many training rows"),
        Shown(TRAINING, default="all of them"),
    ] = None
    seed: Annotated[
        int,
        Field(ge=0, le=2**32 - 1, strict=True, description="Seed of a new head, the order of rows and dropout"),
        Shown(TRAINING),
    ] = 0
    soft: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            strict=True,
            allow_inf_nan=False,
            description="Weight of the divergence from a teacher's logits in the loss, the labels having the rest",
        ),
        Shown(DISTILLATION),
    ] = 0.5
    temperature: Annotated[
        float,
        Field(
            gt=0,
            strict=True,
            allow_inf_nan=False,
            description="Divisor of both models' logits in that divergence",
        ),
        Shown(DISTILLATION),
    ] = 2.0
    hidden: Annotated[
        float,
        Field(
            ge=0,
            strict=True,
            allow_inf_nan=False,
            description="Weight of the relative squared distance from the hidden states of a teacher of the same sizes",
        ),
        Shown(DISTILLATION),
    ] = 1.0
