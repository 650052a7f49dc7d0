"""Score a model and its variants on one task; a failure is recorded and does not stop the rest."""

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

AS_IS = ""  # variant name of a model that is scored as it is


def evaluate_task(
    task: Task, model: str, setup: Setup, variants: Sequence[Variant] = (), baseline: str | None = None
) -> dict[str, TaskResult]:
    """Score a model on a task, and everything compared with it; failures are recorded, not raised.

    Parameters
    ----------
    task : Task
    model : str
        Hub id or directory.
    setup : Setup
    variants : sequence of Variant
        Versions of `model`, which is their baseline and is scored once.
    baseline : str, optional
        The model that `model` was made from. Not together with `variants`.

    Returns
    -------
    dict of str to TaskResult
        Results by variant name; under `AS_IS` without variants.

    Raises
    ------
    PlanError
        If an option is wrong: it would fail every task.
    """
    names = [variant.name for variant in variants] or [AS_IS]
    exam = Examination(task, baseline or model, setup, origin=None if baseline else setup.origin)
    plain = _attempt(task, model, exam.plain)
    if isinstance(plain, TaskResult):
        return dict.fromkeys(names, plain)
    if variants:
        return {v.name: _attempt(task, model, partial(exam.variant, v, plain)) for v in variants}
    if baseline is None:
        return {AS_IS: _attempt(task, model, lambda: exam.compared(plain))}
    other = Examination(task, model, setup, exam.reading(plain), origin=setup.origin)
    return {AS_IS: _attempt(task, model, lambda: exam.compared(other.plain(), plain))}


def _attempt(task: Task, model: str, work: Callable[[], T]) -> T | TaskResult:
    """Return the result of `work`, or a `TaskResult` with the reason why it failed."""
    try:
        return work()
    except PlanError:
        raise
    except MissingCheckpointError as error:
        return TaskResult(NOT_AVAILABLE, model, reason=str(error))
    except (LpCompressError, OSError) as error:
        return TaskResult(FAILED, model, reason=str(error))
    except Exception as error:  # a bug or out of memory: log the traceback, go on with other tasks
        logging.getLogger(__name__).exception("%s failed", task.key)
        return TaskResult(FAILED, model, reason=f"{type(error).__name__}: {error}")
