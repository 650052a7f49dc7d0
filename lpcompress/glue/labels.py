"""Which output of a model is which class of the data set.

Fine-tuned checkpoints disagree on the order (read in the data set's, some score 7 % on MNLI instead of 84 %), so it is
decided anew for each model, by what is surest: a user's file, the names in the model's config, a table of known
checkpoints, and last a probe of the uncompressed model. What stays undecided is an error.
"""

import itertools
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lpcompress.errors import LpCompressError, PlanError
from lpcompress.glue.tasks import AX, TASKS, Task, chosen, normalized

Order = tuple[int, ...]
Probe = Callable[[], tuple[np.ndarray, np.ndarray]]

KNOWN: dict[tuple[str, str], Order] = {  # (task, pattern of Hub ids in lower case) -> order
    ("mnli", "textattack/*-mnli"): (2, 0, 1),  # https://github.com/QData/TextAttack/issues/684
    ("mnli", "textattack/*-snli"): (2, 0, 1),
}
PROBE_ROWS = 500  # as many rows as the probe should have, whatever the limit of the evaluation
SHUFFLES = 999
MARGIN = 0.2  # of accuracy by which an order must beat the data set's to replace it
LEVEL = 0.001  # how rarely chance may give so clear an answer


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
            If any is not finite: an argument of the maximum would hide that.
        """
        if not np.isfinite(logits).all():
            raise LpCompressError("the model's outputs must be finite numbers. Some are NaN or infinite.")
        if self.order is None:
            return logits[:, 0].astype(np.float64)
        return np.asarray(self.order)[logits.argmax(axis=1)]


def decide(task: Task, config: Any, model_name: str, probe: Probe, label_map: Path | None = None) -> LabelMap:
    """Find out which output is which class.

    Parameters
    ----------
    task : Task
    config : PretrainedConfig
        Of the model; its `id2label` is read.
    model_name : str
        Hub id, to be looked up among the known checkpoints.
    probe : callable
        Called only if names and table do not tell; returns the logits (n, classes) of the **uncompressed** model
        on about `PROBE_ROWS` labelled rows, and their labels (n,). A compressed model must never be probed: a fitted
        order would hide damage.
    label_map : Path, optional
        A file that overrides all else for the tasks that it names, see `read_label_map`.

    Returns
    -------
    LabelMap

    Raises
    ------
    LpCompressError
        If the order cannot be decided. With two classes and nothing to tell them apart (a model at chance, as
        nearly all are on WNLI), the data set's order is taken, with a warning: names such as LABEL_0 come from
        training on the data set's numbers, and where no order beats the other neither reading gains or loses
        more than chance does. With three classes, orders other than the data set's are common, so it is an error.
    """
    if not task.classes:
        return LabelMap(None, "regression")
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    if label_map is not None and (order := _from_file(label_map, task, names)):
        return LabelMap(order, "file")
    if order := _permutation([task.class_id(name) for name in names if not _is_number(name)], task):
        return LabelMap(order, "names")
    for (key, pattern), order in KNOWN.items():
        if key == (task.head or task.key) and fnmatchcase(model_name.lower(), pattern):
            return LabelMap(order, "known checkpoint")
    return _probed(task, model_name, *probe())


def read_label_map(path: Path) -> dict[str, Any]:
    """Return what a file says of the order of outputs: task -> list or mapping.

    The file is YAML or JSON: `{mnli: [contradiction, entailment, neutral]}`, classes (names or numbers of the data
    set) in the order of the model's outputs, or `{mnli: {LABEL_0: contradiction, ...}}`. If none of its keys is a
    task, it is taken for the one mapping of every task, under the key "".

    Raises
    ------
    PlanError
        If it cannot be read or is no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}). Name a YAML or JSON file.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise PlanError(f"{path}: is neither YAML nor JSON.") from None
    if not isinstance(content, dict) or not content:
        raise PlanError(f"{path}: must map tasks to the classes of a model's outputs, in their order.")
    known = {*TASKS, AX.key}
    spelled = {str(key): re.sub("[-_]", "", str(key).lower()) for key in content}
    if not known & set(spelled.values()):
        return {"": content}
    return {chosen(key)[0].key: content[key] for key in spelled}


def _from_file(path: Path, task: Task, names: list[str]) -> Order | None:
    content = read_label_map(path)
    entry = content.get(task.key, content.get(task.head, content.get("")))
    if entry is None:
        return None
    if isinstance(entry, Mapping):
        entries = {normalized(str(key)): value for key, value in entry.items()}
        entry = [entries.get(normalized(name), entries.get(str(i))) for i, name in enumerate(names)]
    order = _permutation([task.class_id(value) for value in entry], task) if isinstance(entry, list) else None
    if order is None:
        raise PlanError(
            f"{path}: {task.key} must give each of {', '.join(task.classes)} to one of the model's outputs"
            f" {', '.join(names)}."
        )
    return order


def _permutation(ids: list[int | None], task: Task) -> Order | None:
    """Return the ids if every class is among them once."""
    numbers = [number for number in ids if number is not None]
    return tuple(numbers) if len(ids) == len(numbers) and sorted(numbers) == list(range(len(task.classes))) else None


def _is_number(name: str) -> bool:
    """Tell whether a name of an output says no more than its number."""
    return name.strip().isdecimal()


def _probed(task: Task, model_name: str, logits: np.ndarray, labels: np.ndarray) -> LabelMap:
    """Decide by accuracy under every order; accuracy is the mean over classes, so a constant answer tells nothing."""
    identity = tuple(range(len(task.classes)))
    counts = _confusion(logits.argmax(axis=1), labels, len(identity))
    ranked = sorted(_accuracies(counts).items(), key=lambda item: -item[1])
    (best, accuracy), plain = ranked[0], dict(ranked)[identity]
    sure = _chance_of(logits.argmax(axis=1), labels, counts) <= LEVEL
    if sure and best == identity:
        return LabelMap(identity, "identity, probe agrees")
    reading = f"{model_name}: its outputs have no names that {task.key} knows"
    if sure and accuracy - plain > MARGIN:
        classes = ", ".join(task.classes[i] for i in best)
        warnings.warn(
            f"{reading}; read as {classes}, {len(labels)} rows of the uncompressed model score {accuracy:.0%} (mean"
            f" over classes), in the data set's order {plain:.0%}. --label-map FILE says otherwise.",
            stacklevel=3,
        )
        return LabelMap(best, "probe")
    if len(identity) == 2 and not sure:
        warnings.warn(
            f"{reading}, and the uncompressed model is too near chance to tell; taken in the data set's order."
            " --label-map FILE says otherwise.",
            stacklevel=3,
        )
        return LabelMap(identity, "identity")
    raise LpCompressError(
        f"{reading}, and {len(labels)} rows of the uncompressed model do not tell which is which. Say it with"
        f" --label-map FILE: {{{task.key}: [{', '.join(task.classes)}]}}, in the order of the outputs."
    )


def _confusion(outputs: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """Return the counts of shape (outputs, classes)."""
    return np.bincount(outputs * size + labels, minlength=size * size).reshape(size, size)


def _accuracies(counts: np.ndarray) -> dict[Order, float]:
    """Return the accuracy under every order, the mean over the classes that occur."""
    totals = counts.sum(axis=0)  # (classes,)
    recalls = counts / np.maximum(totals, 1)
    orders = itertools.permutations(range(len(counts)))
    outputs = np.arange(len(counts))
    return {order: float(recalls[outputs, order].sum() / np.count_nonzero(totals)) for order in orders}


def _chance_of(outputs: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> float:
    """Return how often shuffled labels set the best order as far above the next one as the true ones do."""

    def lead(table: np.ndarray) -> float:
        *_, second, first = sorted(_accuracies(table).values())
        return first - second

    generator = np.random.default_rng(0)
    found = lead(counts) - 1e-9  # sums in another order round differently
    shuffled = (lead(_confusion(outputs, generator.permutation(labels), len(counts))) for _ in range(SHUFFLES))
    return (1 + sum(value >= found for value in shuffled)) / (1 + SHUFFLES)
