"""Which output of a model is which class of the data set.

Fine-tuned checkpoints disagree on the order (read in the data set's, some score 7 % on MNLI instead of 84 %), so it is
decided anew for each model, by what is surest: a user's file, the names in the model's config, a table of known
checkpoints, and last a probe, which asks what the model's own answers say. A damaged model must not be probed, for the
order that suits it best would hide the damage; whether a model is one is for the caller to know. What stays undecided
is an error, and so are names that the answers of a sound model belie.
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

# Trained in the order contradiction, entailment, neutral; their RoBERTa in another one, so it is probed.
# https://github.com/QData/TextAttack/issues/684, https://github.com/DFKI-NLP/thermostat/issues/10
KNOWN: dict[tuple[str, str], Order] = {  # (task, pattern of Hub ids in lower case) -> order
    ("mnli", f"textattack/{base}-*{corpus}"): (2, 0, 1)
    for base in ("bert", "distilbert", "xlnet")
    for corpus in ("mnli", "snli")
}
MARGIN = 0.2  # of accuracy by which an order must beat another to replace it


@dataclass(frozen=True)
class LabelMap:
    """The order of a model's outputs.

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
        """Return the classes of shape (n,), in the data set's numbers, or the values of a regression.

        Parameters
        ----------
        logits : array of shape (n, outputs)

        Raises
        ------
        LpCompressError
            If any is not finite: the largest of them would hide that.

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
    """Find out which output is which class.

    Parameters
    ----------
    task : Task
    config : PretrainedConfig
        Of the model; its `id2label` is read.
    model_name : str
        Hub id, to be looked up among the known checkpoints.
    probe : callable
        Called only if names and table do not tell; returns the logits (n, classes) of an **undamaged** model on
        `probe.PROBE_ROWS` labelled rows, however few are to be scored, and their labels (n,); raises for any other.
    label_map : Path, optional
        Overrides all else for the tasks that it names, see `read_label_map`.
    answers : tuple of two arrays, optional
        Logits and labels of an **undamaged** model as `probe` returns them, on any rows that were scored anyway: names
        and table are held against them.

    Returns
    -------
    LabelMap

    Raises
    ------
    PlanError
        If the file is wrong.
    LpCompressError
        If the order cannot be decided, or the names are plainly not those of the outputs. With two classes and
        nothing to tell them apart (a model at chance, as nearly all are on WNLI), the data set's order is taken, with
        a warning: names such as LABEL_0 come from training on the data set's numbers, and as neither order beats the
        other, the wrong one could not gain more than chance does. With three classes other orders are common, so it
        is an error.

    Warns
    -----
    UserWarning
        If the probe decides against the data set's order, or cannot tell.
    """
    if not task.classes:
        return LabelMap(None, "regression")
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    if label_map is not None and (order := _from_file(label_map, task, names)):
        return LabelMap(order, "file")
    found = examine(answers[0], answers[1], len(task.classes)) if answers and not task.adversarial else None
    if not any(name.strip().isdecimal() for name in names) and (order := _order(names, task)):
        if found and _belied(order, found):
            raise LpCompressError(
                f"{model_name}: its outputs are named {', '.join(names)}, with which the uncompressed model is right in"
                f" {found.accuracies[order]:.0%} (mean over classes); as {_in_words(found.best, task)} it would be in"
                f" {found.accuracies[found.best]:.0%}. Say which it is with --label-map FILE."
            )
        return LabelMap(order, "names")
    if (order := _known(task, model_name)) and not (found and _belied(order, found)):
        return LabelMap(order, "known checkpoint")
    return _probed(task, model_name, examine(*probe(), len(task.classes)))


def read_label_map(path: Path) -> dict[str, Any]:
    """Return what a file says of the order of outputs: task -> list or mapping.

    The file is YAML or JSON: `{mnli: [contradiction, entailment, neutral]}`, classes (names or numbers of the data
    set) in the order of the model's outputs, or `{mnli: {LABEL_0: contradiction, ...}}`. If none of its keys is a
    task, it is taken for the one mapping of every task, under the key "".

    Raises
    ------
    PlanError
        If it cannot be read, is no mapping, or has keys besides tasks.
    """
    content = read_yaml(path, "task: [class, class, ...]")  # JSON is YAML
    if not isinstance(content, dict) or not content:
        raise PlanError(f"{path}: must map tasks to the classes of a model's outputs, in their order.")
    known = (*TASKS, AX.key)
    by_task = {squeezed(str(key)): entry for key, entry in content.items()}
    unknown = [key for key in by_task if key not in known]
    if len(unknown) == len(by_task):
        return {"": content}
    if unknown:
        raise PlanError(f"{path}: keys must be tasks ({', '.join(known)}). Got {unknown[0]!r}.")
    return by_task


def _from_file(path: Path, task: Task, names: list[str]) -> Order | None:
    """Return the order that a file gives, None if it does not speak of the task."""
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
            f"{path}: {task.key} must give each of {', '.join(task.classes)} to one of the model's outputs"
            f" {', '.join(names)}. Got {content.get(task.key, entry)}."
        )
    return order


def _known(task: Task, model_name: str) -> Order | None:
    """Return the order of a checkpoint in the table."""
    head, name = task.head or task.key, model_name.lower()
    return next((order for (key, pattern), order in KNOWN.items() if key == head and fnmatchcase(name, pattern)), None)


def _order(names: list[Any], task: Task) -> Order | None:
    """Return the numbers of the classes that are named, None unless every class is named once."""
    ids = [number for name in names if (number := task.class_id(name)) is not None]
    return tuple(ids) if len(ids) == len(names) and sorted(ids) == list(range(len(task.classes))) else None


def _probed(task: Task, model_name: str, evidence: Evidence) -> LabelMap:
    """Decide by what a probe found."""
    identity = tuple(range(len(task.classes)))
    best, accuracies = evidence.best, evidence.accuracies
    if evidence.sure and best == identity:
        return LabelMap(identity, "identity, probe agrees")
    nameless = f"{model_name}: its outputs have no names that {task.key} knows"
    if len(identity) == 2 and (task.adversarial or not evidence.sure):
        _warn(f"{nameless}, and the uncompressed model is no better than chance; taken in the data set's order.")
        return LabelMap(identity, "identity")
    if _belied(identity, evidence):
        _warn(
            f"{nameless}; taken as {_in_words(best, task)}, which gives the uncompressed model"
            f" {accuracies[best]:.0%} (mean over classes), the data set's order {accuracies[identity]:.0%}."
        )
        return LabelMap(best, "probe")
    raise LpCompressError(
        f"{nameless}, and rows of the uncompressed model do not tell which is which. Say it with --label-map FILE:"
        f" {{{task.key}: [{', '.join(task.classes)}]}}, in the order of the outputs."
    )


def _belied(order: Order, evidence: Evidence) -> bool:
    """Tell whether another order is plainly the right one."""
    return evidence.sure and evidence.accuracies[evidence.best] - evidence.accuracies[order] > MARGIN


def _in_words(order: Order, task: Task) -> str:
    return ", ".join(task.classes[i] for i in order)


def _warn(message: str) -> None:
    warnings.warn(f"{message} --label-map FILE says otherwise.", stacklevel=4)
