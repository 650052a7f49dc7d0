"""Options for scoring models on GLUE."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lpcompress.config.options import Options, Shown
from lpcompress.config.plan import LARGEST_SEED, Plan, plans_for

HUB = "hub"
SCORING = "Scoring"  # group of the command line's help


def _for_all(value: object) -> object:
    """Return a single limit as a mapping that applies it to all tasks and to the average."""
    return {} if value is None else value if isinstance(value, Mapping | bool) else {"": value}


Limits = Annotated[dict[str, float], BeforeValidator(_for_all)]
"""Limits by task, "average", and "" for all others; a single number applies to all."""


class Scoring(Options):
    """Options for scoring on GLUE. The field descriptions are the help text of `lpcompress eval-glue`.

    Raises
    ------
    PlanError
        If a value is invalid or a key is unknown.

    Examples
    --------
    >>> Scoring(max_drop=1.5).max_drop
    {'': 1.5}
    """

    data: Annotated[
        str,
        Field(description="Source of GLUE, either hub or a directory with <task>/<split>.parquet, .tsv or .jsonl"),
        Shown(SCORING, metavar="hub|DIR"),
    ] = HUB
    limit: Annotated[
        int | None,
        Field(ge=1, strict=True, description="Maximum number of rows of each split"),
        Shown(SCORING, default="all"),
    ] = None
    batch_size: Annotated[int, Field(ge=1, strict=True, description="Rows per batch"), Shown(SCORING)] = 32
    label_map: Annotated[
        Path | None,
        Field(description="YAML or JSON file that maps each task to its classes in the order of the model's outputs"),
        Shown(SCORING, metavar="FILE"),
    ] = None
    primary: Annotated[
        dict[str, str],
        BeforeValidator(lambda value: {} if value is None else value),
        Field(description="Metric to use as a task's score, such as mrpc=f1"),
        Shown(SCORING, metavar="TASK=METRIC"),
    ] = Field(default_factory=dict)
    max_drop: Annotated[
        Limits,
        Field(description="Maximum drop of the average or a task, in points; a larger drop gives exit code 3"),
        Shown(SCORING, metavar="X|TASK=X|average=X"),
    ] = Field(default_factory=dict)
    min_recovery: Annotated[
        Limits,
        Field(
            description="Minimum share of the baseline's score to keep, such as 0.98; a smaller one gives exit code 3"
        ),
        Shown(SCORING, metavar="X|TASK=X|average=X"),
    ] = Field(default_factory=dict)
    seed: Annotated[
        int,
        Field(ge=0, le=LARGEST_SEED, description="Random seed of the bootstrap for standard errors"),
        Shown(SCORING),
    ] = 0


def seeks_size(plan: Plan, scoring: Scoring) -> bool:
    """Return whether the smallest size that passes is wanted: there are gates, and no size.

    Examples
    --------
    >>> seeks_size(Plan(), Scoring(max_drop=0.5)), seeks_size(Plan(ratio=0.9), Scoring(max_drop=0.5))
    (True, False)
    """
    return bool(scoring.max_drop or scoring.min_recovery) and not plan.sized


def wishes(
    plan: Plan | None, scoring: Scoring | None, methods: str | Sequence[str], options: Mapping[str, Any]
) -> tuple[dict[str, Plan], Scoring]:
    """Split the options of an evaluation into plans for compression and options for scoring.

    Parameters
    ----------
    plan, scoring : Plan, Scoring or None
    methods : str or sequence of str
        As for `plans_for`.
    options : mapping
        Fields of either class, which override `plan` and `scoring`. `seed` sets both seeds, and does not by itself turn
        compression on. Without it, a seed that only one of the two objects sets is used for both.

    Returns
    -------
    plans : dict of str to Plan
        By method; empty if nothing is to be compressed.
    scoring : Scoring

    Raises
    ------
    PlanError
        If an option is invalid.

    Examples
    --------
    >>> plans, scoring = wishes(None, None, (), {"ratio": 0.5, "limit": 100, "seed": 3})
    >>> plans["auto"].given(), scoring.given()
    ({'ratio': 0.5, 'seed': 3}, {'limit': 100, 'seed': 3})
    """
    to_score = {key: value for key, value in options.items() if key in Scoring.model_fields}
    to_compress = {key: value for key, value in options.items() if key not in to_score}
    scoring = Scoring.of(scoring, to_score)
    if plan is not None or to_compress:
        plan = Plan.of(plan, to_compress)
    elif methods:
        plan = Plan()
    if plan:
        plan = Plan.of(plan, _seed(scoring) if "seed" in options else _seed(scoring) | _seed(plan))
        scoring = Scoring.of(scoring, _seed(plan) | _seed(scoring))
    return plans_for(methods, plan), scoring


def _seed(options: Plan | Scoring) -> dict[str, int]:
    return {"seed": options.seed} if "seed" in options.model_fields_set else {}
