"""What compression is asked and what it did, layer by layer."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lpcompress.compression.priors import RowWeights
from lpcompress.config.plan import Plan


@dataclass(frozen=True)
class Share:
    """What one layer gets.

    Attributes
    ----------
    method : str
    ratio : float
        Share of the layer's stored bytes that is removed.
    loss : float or None
        Share of the energy of the layer that the curve expects to be lost; None where none was drawn.
    """

    method: str
    ratio: float
    loss: float | None = None


@dataclass(frozen=True)
class LayerRecord:
    """What was done to one layer: an entry of `layers` in the report.

    `removed` is the share of bytes; errors are relative, `error_weighted` with each row's square multiplied by
    its row weight, `error_calibrated` that of products with the layer's inputs (None without calibration); `svd_*` are
    those of plain SVD (all rows and all inputs alike) at the same size, None where not even rank 1 fits; `candidates`
    are the errors that `auto` compared.
    """

    name: str
    kind: str
    shape: list[int]
    method: str
    p: float
    clusters: int
    ranks: list[int]
    rows: list[int]
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    removed: float
    row_weights: str
    error_fro: float
    error_p: float
    error_weighted: float
    svd_error_fro: float | None
    svd_error_weighted: float | None
    candidates: dict[str, float]
    seconds: float
    error_calibrated: float | None = None
    svd_error_calibrated: float | None = None


@dataclass(frozen=True)
class Task:
    """What one layer is asked.

    Attributes
    ----------
    share : Share
    weights : RowWeights
    moment : Tensor of shape (d, d) or None
        Second moment of the layer's inputs, where it was measured.
    """

    share: Share
    weights: RowWeights
    moment: Tensor | None


@dataclass(frozen=True)
class CompressionReport:
    """What was done to a model. Parameters are stored floating-point numbers, tied ones counted once.

    `skipped` are layers that only a word asked for and that nothing smaller can hold, and why;
    `warnings` are what to know before use; `calibration` is the `source` and the number of `texts`, if there were any.
    """

    layers: list[LayerRecord]
    parameters_before: int
    parameters_after: int
    seed: int
    seconds: float
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    calibration: dict[str, Any] | None = None


@dataclass(frozen=True)
class Preview:
    """What `compress` would do.

    Attributes
    ----------
    layers : list of dict
        One a layer that changes, with `method`, `bytes_before`, `bytes_budget` and more.
    plan : Plan
        Makes `compress` do it again; with a size of the model, every layer's method and ratio.
    """

    layers: list[dict[str, Any]]
    plan: Plan
