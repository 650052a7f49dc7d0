"""Results of a sweep: a point for each method and size, and the JSON document made from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from lpcompress.compression.records import CompressionReport, LayerRecord
from lpcompress.config.plan import Plan
from lpcompress.presentation import megabytes, plain_table, points


@dataclass(frozen=True)
class Measured:
    """What a compression takes and loses, without scores.

    Attributes
    ----------
    bytes : int
        Of the weight files: those of the dense model, less what the layers save.
    error : float
        Root of the mean squared relative error of the layers, by their parameters: of products with the inputs of
        calibrated layers, of rows with their weights otherwise.
    embedding_bytes, embedding_error : int, float or None
        Of the word embedding alone, rows weighted; None if it is not among the layers.
    """

    bytes: int
    error: float
    embedding_bytes: int | None = None
    embedding_error: float | None = None

    @classmethod
    def of(cls, report: CompressionReport, dense: int) -> "Measured":
        """Measure a compressed model whose weight files took `dense` bytes."""
        layers = report.layers
        saved = sum(layer.bytes_before - layer.bytes_after for layer in layers)
        squares = sum(layer.parameters_before * _error(layer) ** 2 for layer in layers)
        error = (squares / max(1, sum(layer.parameters_before for layer in layers))) ** 0.5
        words = next((layer for layer in layers if layer.kind == "embedding"), None)
        own = (words.bytes_after, words.error_weighted) if words else (None, None)
        return cls(dense - saved, error, *own)

    @classmethod
    def mean(cls, found: Sequence["Measured"]) -> "Measured | None":
        """Return the mean over the models of several tasks; None of nothing."""
        if not found:
            return None
        own = [each for each in found if each.embedding_bytes is not None]
        return cls(
            round(_mean(each.bytes for each in found)),
            _mean(each.error for each in found),
            round(_mean(each.embedding_bytes or 0 for each in own)) if own else None,
            _mean(each.embedding_error or 0.0 for each in own) if own else None,
        )


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / len(every)


def _error(layer: LayerRecord) -> float:
    return layer.error_weighted if layer.error_calibrated is None else layer.error_calibrated


@dataclass(frozen=True)
class Point:
    """A method at a size.

    Attributes
    ----------
    plan : Plan
    measured : Measured or None
        None if nothing could be made.
    drop, drop_se : float or None
        Mean over tasks, in points, with its standard error.
    tasks : dict
        By task: its score, drop, standard error and recovery, or the reason why there are none.
    reason : str or None
        Why the size could not be made.
    bound : float or None
        Least error of the word embedding at its size; see `factor.bound`.
    """

    plan: Plan
    measured: Measured | None
    drop: float | None = None
    drop_se: float | None = None
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reason: str | None = None
    bound: float | None = None

    @property
    def size(self) -> dict[str, float]:
        """The option that sets the size, and its value."""
        given = {"ratio": self.plan.ratio, "target_size": self.plan.target_size}
        return {key: value for key, value in given.items() if value is not None}

    def document(self) -> dict[str, Any]:
        """Return the entry of `points`."""
        measured = asdict(self.measured) | {"bound": self.bound} if self.measured else {}
        rest = {"drop": self.drop, "drop_se": self.drop_se, "tasks": dict(self.tasks), "reason": self.reason}
        return {"method": self.plan.method, **self.size, **measured, **rest}


@dataclass(frozen=True)
class Sweep:
    """Result of a sweep.

    Attributes
    ----------
    model : str
    dense : dict
        `bytes` of the weight files, the mean `score`, and the score by task.
    points : sequence of Point
    bound : dict or None
        `bytes` and `error` of the least error of the word embedding; None if it has none.
    settings, versions : dict
    date : str
    """

    model: str
    dense: Mapping[str, Any]
    points: Sequence[Point]
    bound: Mapping[str, list[float]] | None
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    date: str

    def document(self) -> dict[str, Any]:
        """Return the content of `sweep.json`."""
        return vars(self) | {"points": [point.document() for point in self.points]}


def _alone(point: Point) -> bool:
    """Whether the error of a point is that of the word embedding, and its bound is known."""
    own = point.measured and point.measured.embedding_error
    return point.bound is not None and point.measured is not None and point.measured.error == own


def sweep_table(sweep: Sweep) -> Table:
    """Return the points as a table, with the dense model first."""
    scored = sweep.dense["score"] is not None
    bounded = all(each.measured is None or _alone(each) for each in sweep.points)
    table = plain_table(f"{sweep.model}: error{' and drop' * scored} against bytes", "method", "size")
    for heading in ("bytes", "error", *["bound"] * bounded, *["drop ± se"] * scored):
        table.add_column(heading, justify="right", no_wrap=True)
    score = [points(sweep.dense["score"])] * scored
    table.add_row("dense", "", megabytes(sweep.dense["bytes"]), "", *[""] * bounded, *score)
    table.add_section()
    for point in sweep.points:
        size = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in point.size.items())
        if point.measured is None:
            table.add_row(point.plan.method, size, *["-"] * (2 + bounded + scored))
            continue
        drop = "-" if point.drop is None else f"{point.drop:z.2f} ± {point.drop_se:.2f}"
        numbers = megabytes(point.measured.bytes), f"{point.measured.error:.4f}"
        least = [f"{point.bound:.4f}"] * bounded
        table.add_row(point.plan.method, size, *numbers, *least, *[drop] * scored)
    reasons = dict.fromkeys(point.reason for point in sweep.points if point.reason)
    notes = ["bytes: of the weight files; error: relative, of the layers"]
    notes += ["bound: least error of Gaussian rows of these lengths and this spectrum"] * bounded
    notes += ["drop: mean over tasks in points, with its standard error; the dense row shows the score"] * scored
    table.caption = "\n".join([*notes, *reasons])
    return table
