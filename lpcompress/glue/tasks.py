"""The GLUE tasks, one row each."""

from collections.abc import Iterable
from dataclasses import dataclass

from lpcompress.errors import PlanError, nearest

WNLI = "wnli"  # nearly every model predicts its majority class, so its score says nothing

SYNONYMS = {
    "entail": "entailment",
    "not_entail": "not_entailment",
    "contradict": "contradiction",
    "pos": "positive",
    "neg": "negative",
    "paraphrase": "equivalent",
    "not_paraphrase": "not_equivalent",
}
SECOND_SPLIT = "_mm"  # suffix of a metric on MNLI's mismatched rows, as in eval_accuracy_mm


@dataclass(frozen=True)
class Task:
    """One task of GLUE.

    Attributes
    ----------
    key : str
        As on the Hub and in options: `sst2`.
    spelling : str
        As in GLUE itself and in the names of many checkpoints: `SST-2`. It replaces `{TASK}` in a template; `key`
        replaces `{task}`, and `key` with a capital replaces `{Task}`.
    columns : tuple of str
        One or two columns of text, in the order in which the tokenizer gets them.
    classes : tuple of str
        In the order of the data set's numbers; empty for a regression.
    metrics : tuple of str
        Names of `metrics.REFERENCES`, the main one first.
    splits : tuple of str
        The splits that are scored.
    head : str
        The task whose fine-tuned model is scored, if not this one.
    adversarial : bool
        Whether rows repeat training sentences with the other label, so that scores below chance are normal.
    """

    key: str
    spelling: str
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    splits: tuple[str, ...] = ("validation",)
    head: str = ""
    adversarial: bool = False

    @property
    def n_outputs(self) -> int:
        """Number of outputs of a model for this task: one for each class, or one for a regression."""
        return len(self.classes) or 1

    @property
    def metric_keys(self) -> tuple[str, ...]:
        """Names of the metrics of all splits in a result; those of MNLI's mismatched rows end in `_mm`."""
        return tuple(name + ending for ending in ("", SECOND_SPLIT)[: len(self.splits)] for name in self.metrics)

    def class_id(self, name: object) -> int | None:
        """Return the number of a class given its name, a synonym or the number itself; None if there is none.

        Examples
        --------
        >>> TASKS["rte"].class_id("Not-Entailment"), TASKS["rte"].class_id("1"), TASKS["rte"].class_id("neutral")
        (1, 1, None)
        """
        text = normalized(str(name))
        text = SYNONYMS.get(text, text)
        if text in self.classes:
            return self.classes.index(text)
        return int(text) if text.isdecimal() and int(text) < len(self.classes) else None


def normalized(name: str) -> str:
    """Return a name in lower case with `_` for `-` and blanks, so that spellings can be compared.

    Examples
    --------
    >>> normalized("Not-Entailment ")
    'not_entailment'
    """
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def squeezed(name: str) -> str:
    """Return the name of a task or folder in the form of a key: `sst2` for `SST-2`."""
    return name.lower().replace("-", "").replace("_", "")


PAIR = ("sentence1", "sentence2")
NLI = ("entailment", "neutral", "contradiction")
TASKS = {
    task.key: task
    for task in (
        Task("cola", "CoLA", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
        Task("sst2", "SST-2", ("sentence",), ("negative", "positive"), ("accuracy",)),
        Task("mrpc", "MRPC", PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1")),
        Task("stsb", "STS-B", PAIR, (), ("pearson", "spearman")),
        Task("qqp", "QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
        Task(
            "mnli",
            "MNLI",
            ("premise", "hypothesis"),
            NLI,
            ("accuracy",),
            splits=("validation_matched", "validation_mismatched"),
        ),
        Task("qnli", "QNLI", ("question", "sentence"), ("entailment", "not_entailment"), ("accuracy",)),
        Task("rte", "RTE", PAIR, ("entailment", "not_entailment"), ("accuracy",)),
        Task("wnli", "WNLI", PAIR, ("not_entailment", "entailment"), ("accuracy",), adversarial=True),  # RTE reversed
    )
}
AX = Task("ax", "AX", ("premise", "hypothesis"), NLI, ("accuracy",), splits=("test",), head="mnli")  # unlabelled


def chosen(names: str | Iterable[str]) -> list[Task]:
    """Return the named tasks, each once, in GLUE's order.

    Parameters
    ----------
    names : str or iterable of str
        `all` (the nine; `ax` only if it is named too), keys or GLUE's spellings. A string may list several, separated
        by commas or blanks.

    Raises
    ------
    PlanError
        If a word is not a task, or no task is named.

    Examples
    --------
    >>> [task.key for task in chosen("rte, SST-2")]
    ['sst2', 'rte']
    >>> len(chosen("all")), len(chosen(["all", "ax"]))
    (9, 10)
    """
    words = [part for text in ([names] if isinstance(names, str) else names) for part in text.replace(",", " ").split()]
    known = TASKS | {AX.key: AX}
    keys: set[str] = set()
    for word in words:
        key = squeezed(word)
        if key not in known and key != "all":
            raise PlanError(f"tasks must be all or some of {', '.join(known)}. Got {word!r}{nearest(key, known)}")
        keys |= set(TASKS) if key == "all" else {key}
    if not keys:
        raise PlanError(f"tasks must name at least one of {', '.join(known)}, or all. Got none.")
    return [task for key, task in known.items() if key in keys]
