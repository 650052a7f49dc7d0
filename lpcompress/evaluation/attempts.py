"""Scoring all that is to be compared on one task; what fails is marked, and the rest goes on."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from lpcompress.errors import LpCompressError, MissingCheckpointError, PlanError
from lpcompress.evaluation.examination import Examination
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, TaskResult
from lpcompress.evaluation.setup import Setup, Variant
from lpcompress.glue.tasks import Task

T = TypeVar("T")

ITSELF = ""  # stands for the name of a variant where a model is scored as it is


def evaluate_task(
    task: Task, model: str, setup: Setup, variants: Sequence[Variant] = (), baseline: str | None = None
) -> dict[str, TaskResult]:
    """Score a model on a task, and all that is to be compared with it; what fails is marked, never raised.

    Parameters
    ----------
    task : Task
    model : str
        Hub id or directory.
    setup : Setup
    variants : sequence of Variant
        Each is made of `model`, which is their baseline and is scored once.
    baseline : str, optional
        The model that `model` was made from; not together with variants.

    Returns
    -------
    dict of str to TaskResult
        By the variants' names; under `ITSELF` where there are none.

    Raises
    ------
    PlanError
        If an option is wrong, which would fail every task.
    """
    names = [variant.name for variant in variants] or [ITSELF]
    exam = Examination(task, baseline or model, setup)
    plain = _attempt(task, model, exam.plain)
    if isinstance(plain, TaskResult):
        return dict.fromkeys(names, plain)
    if variants:
        return {v.name: _attempt(task, model, partial(exam.made, v, plain)) for v in variants}
    if baseline is None:
        return {ITSELF: _attempt(task, model, lambda: exam.compared(plain))}
    other = Examination(task, model, setup, baseline=exam.reading(plain))
    return {ITSELF: _attempt(task, model, lambda: exam.compared(other.plain(), plain))}


def _attempt(task: Task, model: str, work: Callable[[], T]) -> T | TaskResult:
    """Return what `work` returns, or a result that says why there is none."""
    try:
        return work()
    except PlanError:
        raise
    except MissingCheckpointError as error:
        return TaskResult(NOT_AVAILABLE, model, reason=str(error))
    except (LpCompressError, OSError) as error:
        return TaskResult(FAILED, model, reason=str(error))
    except Exception as error:  # a bug, or no memory left: the other tasks go on, the traceback is logged
        logging.getLogger(__name__).exception("%s failed", task.key)
        return TaskResult(FAILED, model, reason=f"{type(error).__name__}: {error}")
