"""The results as others script against them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lpcompress.evaluation.averages import average, formula
from lpcompress.evaluation.gates import Gates
from lpcompress.evaluation.results import TaskResult
from lpcompress.glue.tasks import WNLI

CAPTION = "without fine-tuning"


def document(
    model: str,
    baseline: str | None,
    results: Mapping[str, TaskResult],
    settings: Mapping[str, Any],
    gates: Gates,
    **about: Any,
) -> dict[str, Any]:
    """Return one document of `eval-glue --json`.

    Parameters
    ----------
    model : str
        Hub id, directory, template or YAML file.
    baseline : str or None
        Of the same kinds; `model` itself where it was compressed here.
    results : mapping of str to TaskResult
        By task, in the order in which they are listed.
    settings : mapping
        What was asked for; `primary` in it decides which metrics make a score.
    gates : Gates
    **about
        Versions and date.

    Returns
    -------
    dict
        Numbers depend on models, data and settings alone, but for those under `seconds` and `date`.
    """
    mean = average(results)
    rest = average(results, without=WNLI)
    numbers = asdict(mean)
    tasks = numbers.pop("tasks")
    failures = gates.failures(results, mean)
    return {
        "model": model,
        "baseline": baseline,
        **numbers,
        "formula": formula(tasks, settings["primary"]),
        "without_wnli": asdict(rest) | {"formula": formula(rest.tasks, settings["primary"])},
        "caption": CAPTION,
        "tasks": {key: result.as_dict() for key, result in results.items()},
        "gates": {**asdict(gates), "passed": not failures, "failures": failures} if gates else None,
        "settings": dict(settings),
        **about,
    }
