"""Map tasks to models: one model, a template or a YAML file."""

from collections.abc import Sequence
from pathlib import Path

from lpcompress.config.yaml_file import read_yaml
from lpcompress.errors import PlanError, nearest
from lpcompress.glue.tasks import AX, TASKS, Task

PLACEHOLDERS = ("{task}", "{Task}", "{TASK}")


def models_of(source: str, tasks: Sequence[Task]) -> dict[str, str | None]:
    """Return the model of each task; None for a task that a YAML file leaves out.

    Parameters
    ----------
    source : str
        One of: a Hub id or directory, for one task; a template that contains `{task}` (mrpc), `{Task}` (Mrpc) or
        `{TASK}` (MRPC, SST-2, ... as GLUE spells it); a YAML file that maps tasks to models. AX is scored with MNLI's
        model, unless a YAML file gives it another.
    tasks : sequence of Task

    Raises
    ------
    PlanError
        If one model is given for several tasks, or the file is not such a map.

    Examples
    --------
    >>> models_of("textattack/roberta-base-{TASK}", [TASKS["sst2"], TASKS["mrpc"]])
    {'sst2': 'textattack/roberta-base-SST-2', 'mrpc': 'textattack/roberta-base-MRPC'}
    """
    if any(placeholder in source for placeholder in PLACEHOLDERS):
        return {task.key: _filled(source, task) for task in tasks}
    if Path(source).suffix.lower() in (".yaml", ".yml"):
        models = _read(Path(source))
        return {task.key: models.get(task.key, models.get(_head(task).key)) for task in tasks}
    if len({_head(task).key for task in tasks}) > 1:
        raise PlanError(
            f"{source} is one model, fine-tuned on one task. Name that task (--tasks mrpc), or give a template such as"
            " 'textattack/bert-base-uncased-{TASK}' or a YAML file that maps tasks to models."
        )
    return {task.key: source for task in tasks}


def _head(task: Task) -> Task:
    return TASKS[task.head] if task.head else task


def _filled(template: str, task: Task) -> str:
    task = _head(task)
    for placeholder, word in zip(PLACEHOLDERS, (task.key, task.key.capitalize(), task.spelling), strict=True):
        template = template.replace(placeholder, word)
    return template


def _read(path: Path) -> dict[str, str | None]:
    """Read a map of tasks to models from a YAML file; null means no model."""
    models = read_yaml(path, "task: model")
    if not isinstance(models, dict):
        raise PlanError(f"{path} must map tasks to models. Write one `task: model` per line.")
    known = [*TASKS, AX.key]
    for key, model in models.items():
        if key not in known:
            raise PlanError(f"{path}: keys must be tasks of {', '.join(known)}. Got {key!r}{nearest(str(key), known)}")
        if not (model is None or (isinstance(model, str) and model)):
            raise PlanError(f"{path}: the model of {key} must be a Hub id, a directory or null. Got {model!r}.")
    return models
