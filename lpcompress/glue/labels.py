"""Decide which output of a model is which class of the data set.

Fine-tuned checkpoints disagree on the order: read in the data set's order, some score 7 % on MNLI instead of 84 %. The
order is therefore decided for each model, from the most reliable source available: a user's file, the names in the
model's config, a table of known checkpoints, and last a probe, which compares the model's answers with labels. A
damaged model must not be probed, because the order that suits it best would hide the damage; the caller must know
whether a model is damaged. An undecided order is an error, and so are names that an undamaged model's answers
contradict.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from lpcompress.config.yaml_file import read_yaml
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.glue.probe import Evidence, Order, examine
from lpcompress.glue.tasks import AX, TASKS, Task, normalized, squeezed

Probe = Callable[[], tuple[np.ndarray, np.ndarray]]

# TextAttack's order is contradiction, entailment, neutral. Its RoBERTa models have another one and are probed.
# https://github.com/QData/TextAttack/issues/684, https://github.com/DFKI-NLP/thermostat/issues/10
KNOWN: dict[tuple[str, str], Order] = {  # (task, pattern of Hub ids in lower case) -> order
    ("mnli", f"textattack/{base}-*{corpus}"): (2, 0, 1)
    for base in ("bert", "distilbert", "xlnet")
    for corpus in ("mnli", "snli")
}
MARGIN = 0.2  # accuracy (0 to 1) by which an order must beat another to replace it


@dataclass(frozen=True)
class LabelMap:
    """Order of a model's outputs.

    Attributes
    ----------
    order : tuple of int or None
        Output i means class `order[i]` of the data set; None for a regression.
    decided_by : str
        "file", "names", "known checkpoint", "identity, probe agrees", "identity", "probe" or "regression".
    """

    order: Order | None
    decided_by: str

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """Return the data set's class numbers, or the regression values, of shape (n,).

        Parameters
        ----------
        logits : array of shape (n, outputs)

        Raises
        ------
        LpCompressError
            If a logit is not finite: taking the largest one would hide that.

        Examples
        --------
        >>> LabelMap((2, 0, 1), "file").predictions(np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]]))
        array([0, 2])
        """
        if not np.isfinite(logits).all():
            raise LpCompressError("the model's outputs must be finite numbers. Some are NaN or infinite.")
        if self.order is None:
            return logits[:, 0].astype(np.float64)
        return np.asarray(self.order)[logits.argmax(axis=1)]


def decide(
    task: Task,
    config: Any,
    model_name: str,
    probe: Probe,
    label_map: Path | None = None,
    answers: tuple[np.ndarray, np.ndarray] | None = None,
) -> LabelMap:
    """Decide which output is which class.

    Parameters
    ----------
    task : Task
    config : PretrainedConfig
        Config of the model, with `id2label`.
    model_name : str
        Hub id, which is looked up among the known checkpoints.
    probe : callable
        Called only if names and table do not decide. Returns the logits (n, classes) of an **undamaged** model on
        `probe.PROBE_ROWS` labelled rows, even if fewer are scored, and their labels (n,). Raises for a damaged model.
    label_map : Path, optional
        File that overrides everything else for the tasks that it lists, see `read_label_map`.
    answers : tuple of two arrays, optional
        Logits and labels of an **undamaged** model as `probe` returns them, on rows that were scored anyway. Names and
        table are checked against them.

    Returns
    -------
    LabelMap

    Raises
    ------
    PlanError
        If the file is invalid.
    LpCompressError
        If the order cannot be decided, or the answers clearly contradict the names. With two classes and no evidence
        (a model at chance, as nearly all are on WNLI) the data set's order is assumed, with a warning: names such as
        LABEL_0 come from training on the data set's numbers, and since neither order beats the other, the wrong one
        gains no more than chance. With three classes other orders are common, so it is an error.

    Warns
    -----
    UserWarning
        If the probe decides against the data set's order, or finds no evidence.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(num_labels=2, id2label={0: "POSITIVE", 1: "NEGATIVE"})
    >>> decide(TASKS["sst2"], config, "user/model", probe=lambda: None)  # the names decide
    LabelMap(order=(1, 0), decided_by='names')
    """
    if not task.classes:
        return LabelMap(None, "regression")
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    if label_map is not None and (order := _from_file(label_map, task, names)):
        return LabelMap(order, "file")
    found = examine(answers[0], answers[1], len(task.classes)) if answers and not task.adversarial else None
    if not any(name.strip().isdecimal() for name in names) and (order := _order(names, task)):
        if found and _contradicted(order, found):
            raise LpCompressError(
                f"{model_name}: its outputs are named {', '.join(names)}, which gives the uncompressed model an"
                f" accuracy of {found.accuracies[order]:.0%} (mean over classes); as {_in_words(found.best, task)} it"
                f" has {found.accuracies[found.best]:.0%}. Give the right order with --label-map FILE."
            )
        return LabelMap(order, "names")
    if (order := _known(task, model_name)) and not (found and _contradicted(order, found)):
        return LabelMap(order, "known checkpoint")
    return _probed(task, model_name, examine(*probe(), len(task.classes)))


def read_label_map(path: Path) -> dict[str, Any]:
    """Read the order of outputs from a file: task -> list or mapping.

    The file is YAML or JSON: `{mnli: [contradiction, entailment, neutral]}`, which lists classes (names, or numbers of
    the data set) in the order of the model's outputs, or `{mnli: {LABEL_0: contradiction, ...}}`. If none of its keys
    is a task, the file is one mapping for every task and is returned under the key "".

    Raises
    ------
    PlanError
        If it cannot be read, is not a mapping, or mixes tasks with other keys.
    """
    content = read_yaml(path, "task: [class, class, ...]")  # JSON is YAML
    if not isinstance(content, dict) or not content:
        raise PlanError(f"{path} must map tasks to classes, in the order of the model's outputs.")
    known = (*TASKS, AX.key)
    by_task = {squeezed(str(key)): entry for key, entry in content.items()}
    unknown = [key for key in by_task if key not in known]
    if len(unknown) == len(by_task):
        return {"": content}
    if unknown:
        raise PlanError(f"{path}: keys must be tasks ({', '.join(known)}). Got {unknown[0]!r}.")
    return by_task


def _from_file(path: Path, task: Task, names: list[str]) -> Order | None:
    """Return the order that a file gives, or None if it does not list the task."""
    content = read_label_map(path)
    entry = next((content[key] for key in (task.key, task.head, "") if key in content), None)
    if entry is None:
        return None
    if isinstance(entry, Mapping):
        entries = {normalized(str(key)): value for key, value in entry.items()}
        entry = [entries.get(normalized(name), entries.get(str(i))) for i, name in enumerate(names)]
    order = _order(entry, task) if isinstance(entry, list) else None
    if order is None:
        raise PlanError(
            f"{path}: {task.key} must assign each of {', '.join(task.classes)} to one of the model's outputs"
            f" {', '.join(names)}. Got {content.get(task.key, entry)}."
        )
    return order


def _known(task: Task, model_name: str) -> Order | None:
    """Return the order of a checkpoint in the table, or None."""
    head, name = task.head or task.key, model_name.lower()
    return next((order for (key, pattern), order in KNOWN.items() if key == head and fnmatchcase(name, pattern)), None)


def _order(names: list[Any], task: Task) -> Order | None:
    """Return the numbers of the named classes, or None unless every class is named once."""
    ids = [number for name in names if (number := task.class_id(name)) is not None]
    return tuple(ids) if len(ids) == len(names) and sorted(ids) == list(range(len(task.classes))) else None


def _probed(task: Task, model_name: str, evidence: Evidence) -> LabelMap:
    """Decide from the result of a probe."""
    identity = tuple(range(len(task.classes)))
    best, accuracies = evidence.best, evidence.accuracies
    if evidence.sure and best == identity:
        return LabelMap(identity, "identity, probe agrees")
    nameless = f"{model_name}: the names of its outputs are not classes of {task.key}"
    if len(identity) == 2 and (task.adversarial or not evidence.sure):
        _warn(f"{nameless}, and the uncompressed model is no better than chance. The data set's order is assumed.")
        return LabelMap(identity, "identity")
    if _contradicted(identity, evidence):
        _warn(
            f"{nameless}. They are read as {_in_words(best, task)}, which gives the uncompressed model an accuracy of"
            f" {accuracies[best]:.0%} (mean over classes); the data set's order gives {accuracies[identity]:.0%}."
        )
        return LabelMap(best, "probe")
    raise LpCompressError(
        f"{nameless}, and the uncompressed model's answers do not show which is which. Give --label-map FILE with"
        f" {{{task.key}: [{', '.join(task.classes)}]}}, in the order of the outputs."
    )


def _contradicted(order: Order, evidence: Evidence) -> bool:
    """Return whether another order is clearly the right one."""
    return evidence.sure and evidence.accuracies[evidence.best] - evidence.accuracies[order] > MARGIN


def _in_words(order: Order, task: Task) -> str:
    return ", ".join(task.classes[i] for i in order)


def _warn(message: str) -> None:
    warnings.warn(f"{message} Use --label-map FILE to change this.", stacklevel=4)
