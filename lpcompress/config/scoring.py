"""How models are scored on GLUE."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lpcompress.config.options import Options, Shown
from lpcompress.config.plan import LARGEST_SEED, Plan, plans_for

HUB = "hub"
SCORING = "Scoring"  # group of the command line's help


def _for_all(value: object) -> object:
    """Return one limit as that of all tasks and of the average."""
    return {} if value is None else value if isinstance(value, Mapping | bool) else {"": value}


Limits = Annotated[dict[str, float], BeforeValidator(_for_all)]
"""Limits by "average", task, and "" for all others; a single number is for all."""


class Scoring(Options):
    """How to score. The fields' descriptions are the help of `lpcompress eval-glue`.

    Raises
    ------
    PlanError
        If a value makes no sense or a key is unknown.

    Examples
    --------
    >>> Scoring(max_drop=1.5).max_drop
    {'': 1.5}
    """

    data: Annotated[
        str,
        Field(description="Where GLUE is, hub or a directory of <task>/<split>.parquet, .tsv or .jsonl"),
        Shown(SCORING, metavar="hub|DIR"),
    ] = HUB
    limit: Annotated[
        int | None,
        Field(ge=1, strict=True, description="Only so many rows of each split"),
        Shown(SCORING, default="all of them"),
    ] = None
    batch_size: Annotated[int, Field(ge=1, strict=True, description="Rows of a batch"), Shown(SCORING)] = 32
    label_map: Annotated[
        Path | None,
        Field(description="YAML or JSON file that maps tasks to classes in the order of the model's outputs"),
        Shown(SCORING, metavar="FILE"),
    ] = None
    primary: Annotated[
        dict[str, str],
        BeforeValidator(lambda value: {} if value is None else value),
        Field(description="Metric to take as a task's score, such as mrpc=f1"),
        Shown(SCORING, metavar="TASK=METRIC"),
    ] = Field(default_factory=dict)
    max_drop: Annotated[
        Limits,
        Field(description="Most points that the average, or a task, may lose; the exit code is 3 if it loses more"),
        Shown(SCORING, metavar="X|TASK=X|average=X"),
    ] = Field(default_factory=dict)
    min_recovery: Annotated[
        Limits,
        Field(description="Least share of the baseline's score to keep, such as 0.98; the exit code is 3 below it"),
        Shown(SCORING, metavar="X|TASK=X|average=X"),
    ] = Field(default_factory=dict)
    seed: Annotated[
        int, Field(ge=0, le=LARGEST_SEED, description="Seed of the bootstrap for standard errors"), Shown(SCORING)
    ] = 0


def wishes(
    plan: Plan | None, scoring: Scoring | None, methods: str | Sequence[str], options: Mapping[str, Any]
) -> tuple[dict[str, Plan], Scoring]:
    """Sort the options of an evaluation into what to compress with and how to score.

    Parameters
    ----------
    plan, scoring : Plan, Scoring or None
    methods : str or sequence of str
        As for `plans_for`.
    options : mapping
        Fields of either, which win. `seed` goes to both and asks for no compression by itself, and so does the seed of
        one of the objects where the other sets none.

    Returns
    -------
    tuple of dict of str to Plan and Scoring
        No plan: nothing is to be compressed.

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
