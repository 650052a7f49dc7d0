"""The cells of the table of GLUE results, for a terminal or for Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from lpcompress.config.plan import Plan
from lpcompress.evaluation.averages import Average
from lpcompress.evaluation.evaluation import CAPTION, Evaluation
from lpcompress.evaluation.results import TaskResult
from lpcompress.glue.tasks import WNLI
from lpcompress.presentation import megabytes, points

MARK = "*"


@dataclass(frozen=True)
class Line:
    """Values of one method's cells in a row: a task's result or an average.

    Attributes
    ----------
    n : int or None
        None for an average.
    status : str
        Shown instead of the score if there is a `reason` why it is missing.
    """

    score: float | None = None
    baseline: float | None = None
    drop: float | None = None
    se: float | None = None
    recovery: float | None = None
    agreement: float | None = None
    n: int | None = None
    status: str = ""
    reason: str | None = None

    @classmethod
    def of_task(cls, result: TaskResult) -> Self:
        """Return the line of a task's result."""
        numbers = (result.score, result.baseline_score, result.drop, result.se, result.recovery, result.agreement)
        return cls(*numbers, None if result.reason else result.n, result.status, result.reason)

    @classmethod
    def of_average(cls, mean: Average) -> Self:
        """Return the line of an average."""
        numbers = (mean.average_drop, mean.average_drop_se, mean.average_recovery)
        return cls(mean.average, mean.baseline_average, *numbers)

    @property
    def score_cell(self) -> str:
        """The score, or the status if there is no score."""
        return self.status if self.reason else points(self.score)

    @property
    def drop_cell(self) -> str:
        """The drop with its standard error; for unlabelled rows, the percentage of unchanged predictions."""
        if self.drop is not None:
            return f"{self.drop:z.2f} ± {self.se:.2f}"
        return "" if self.agreement is None else f"{self.agreement:.1f}% same"


@dataclass(frozen=True)
class Grid:
    """The cells of the table of an evaluation, with several methods side by side.

    Attributes
    ----------
    title : str
    headings : list of str
    tasks, averages : list of list of str
        Rows of cells, one for each heading.
    notes : list of str
        Lines below the table: units, formula, and the reasons for missing scores.
    """

    title: str
    headings: list[str]
    tasks: list[list[str]]
    averages: list[list[str]]
    notes: list[str]

    @classmethod
    def of(cls, evaluation: Evaluation) -> Self:
        """Return the cells of an evaluation."""
        methods, compared = list(evaluation.methods.values()), evaluation.baseline is not None
        rows = [
            [key + MARK * (key == WNLI), *_cells([Line.of_task(scores.tasks[key]) for scores in methods], compared)]
            for key in evaluation.first.tasks
        ]
        means = [["average", *_cells([Line.of_average(scores.mean) for scores in methods], compared)]]
        if WNLI in evaluation.first.tasks:
            rest = [Line.of_average(scores.without_wnli) for scores in methods]
            means.append(["average without wnli", *_cells(rest, compared)])
        title = f"GLUE, {CAPTION}: {_subject(evaluation)}"
        return cls(title, ["task", *_headings([*evaluation.methods], compared)], rows, means, _notes(evaluation))


def part_of(evaluation: Evaluation) -> str:
    """Return a note if only some of the rows were scored, else an empty string."""
    limit = evaluation.scoring.limit
    return f", only the first {limit:,} rows" if limit else ""


def _headings(names: list[str], compared: bool) -> list[str]:
    if not compared:
        return ["n", "score"]
    return ["n", "base", "compressed", "drop ± se", "recovery"] if len(names) == 1 else ["n", "base", *names]


def _cells(lines: Sequence[Line], compared: bool) -> list[str]:
    """Return the cells of a row, given one line per method."""
    first = lines[0]
    n = "" if first.n is None else f"{first.n:,}"
    if not compared:
        return [n, first.score_cell]
    base = next((points(line.baseline) for line in lines if not line.reason), "-")
    if len(lines) > 1:
        return [n, base, *(f"{line.score_cell}\n{line.drop_cell}".rstrip() for line in lines)]
    recovery = "" if first.recovery is None else f"{first.recovery:.1%}"
    return [n, base, first.score_cell, first.drop_cell, recovery]


def _subject(evaluation: Evaluation) -> str:
    """Return what was scored, for the table's title."""
    plan = evaluation.first.plan
    if plan is None:
        return evaluation.model
    method = "" if len(evaluation.methods) > 1 else f"{plan.method}, "
    return f"{evaluation.model}, {method}p={plan.p:g}, {_size(plan)}"


def _size(plan: Plan) -> str:
    """Return the size that a plan sets, for the table's title."""
    if plan.target_size is not None:
        return f"{plan.target_size:.0%} of the model kept"
    if plan.max_bytes is not None:
        return f"at most {megabytes(plan.max_bytes)}"
    return "as allocated" if plan.ratio is None else f"{plan.ratio:.0%} removed"


def _notes(evaluation: Evaluation) -> list[str]:
    """Return the lines below the table: units, formula, and the reasons for missing scores."""
    part = part_of(evaluation)
    notes = [f"scores in points (0 to 100){part}; drop = base - compressed, se by the paired bootstrap"]
    notes.append(evaluation.first.mean.formula)
    if WNLI in evaluation.first.tasks:
        notes.append(f"{MARK} on {WNLI} nearly every model predicts the majority class, which scores 56.3")
    reasons = {
        f"{key} {result.status}: {result.reason}": None
        for scores in evaluation.methods.values()
        for key, result in scores.tasks.items()
        if result.reason
    }
    return [*notes, *reasons]
