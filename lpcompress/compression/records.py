"""Records of compression: tasks and results per layer, reports and previews."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from lpcompress.compression.priors import RowWeights
from lpcompress.config.plan import Plan

Count = Annotated[int, Field(ge=0, lt=2**63)]  # checked where a record is read from a file
Real = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class Share:
    """Method and size for one layer.

    Attributes
    ----------
    method : str
    ratio : float
        Share of the layer's stored bytes to remove, in (0, 1).
    loss : float or None
        Expected relative squared error, estimated; None if it was not.
    delta : float or None
        Step size of the codes, which then decides and not the ratio.
    """

    method: str
    ratio: float
    loss: float | None = None
    delta: float | None = None

    def planned(self) -> dict[str, Any]:
        """Return the values for `LayerPlan`."""
        return {"method": self.method, **({"ratio": self.ratio} if self.delta is None else {"delta": self.delta})}


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """Result of compressing one layer: an entry of `layers` in the report.

    A is the layer's matrix, of shape (n, d), and B its approximation.

    Attributes
    ----------
    name : str
    kind : str
        Role of the layer: embedding, linear or conv.
    shape : list of int
        Shape [n, d] of the matrix.
    method : str
    p : float
        Exponent of the entrywise norm of the fit.
    clusters : int
        Number of subspaces.
    ranks, rows : list of int
        Dimension of each subspace, and number of rows in its cluster.
    parameters_before, parameters_after : int
        Stored floating-point numbers.
    bytes_before, bytes_after : int
        All stored bytes: indices, masks, bias and padding row included.
    bytes_in_memory : int or None
        Bytes of the loaded layer in the resident form `auto`, which may hold more than is stored: see
        `docs/resident.md`. None in reports of older versions.
    removed : float
        Share of the bytes removed.
    row_weights : str
        Source of the row weights.
    error_fro : float
        ||A - B||_F / ||A||_F.
    error_p : float
        As `error_fro`, in the entrywise l_p norm.
    error_weighted : float
        As `error_fro`, with each row's square multiplied by its row weight.
    error_calibrated : float or None
        Relative error of the products with the layer's inputs on the calibration text; None without calibration, and
        for embeddings, which have no products.
    svd_error_fro, svd_error_weighted, svd_error_calibrated : float or None
        The same errors of plain SVD (no row weights, no whitening) at the same size; None if not even rank 1 fits.
    candidates : dict of str to float
        Errors of the methods that `auto` compared. With calibration they are those that fits minimise: the second
        moment of the inputs is damped, so that directions absent from the text count a little.
    energy : dict of str to float
        Share of the matrix's singular values, largest first, such as "0.10" -> their share of the sum of squares. From
        the SVD that is fitted for comparison; empty without it, and in reports of older versions.
    seconds : float
        Time to fit the layer.
    """

    name: str
    kind: str
    shape: list[Count]
    method: str
    p: Real
    clusters: Count
    ranks: list[Count]
    rows: list[Count]
    parameters_before: Count
    parameters_after: Count
    bytes_before: Count
    bytes_after: Count
    removed: Real
    row_weights: str
    error_fro: Real
    error_p: Real
    error_weighted: Real
    svd_error_fro: Real | None = None
    svd_error_weighted: Real | None = None
    candidates: dict[str, Real] = field(default_factory=dict)
    seconds: Real
    error_calibrated: Real | None = None
    svd_error_calibrated: Real | None = None
    bytes_in_memory: Count | None = None
    energy: dict[str, Real] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """How to compress one layer.

    Attributes
    ----------
    share : Share
    weights : RowWeights
    moment : Tensor of shape (d, d) or None
        Second moment of the layer's inputs, or of derivatives by an embedding's rows; None if it was not measured.
    """

    share: Share
    weights: RowWeights
    moment: Tensor | None


@dataclass(frozen=True)
class CompressionReport:
    """Result of `compress`.

    Attributes
    ----------
    layers : list of LayerRecord
        One record for each compressed layer.
    parameters_before, parameters_after : int
        Stored floating-point numbers of the whole model, counting tied tensors once.
    seed : int
    seconds : float
        Time of the whole run.
    skipped : dict of str to str
        Name of a chosen layer that stays dense -> reason.
    warnings : list of str
        What to know before using the model.
    calibration : dict or None
        `source` of the calibration text and number of `texts`; None without calibration.
    bytes_in_memory : int
        Bytes of the whole model's tensors once it is loaded in the resident form `auto`.
    """

    layers: list[LayerRecord]
    parameters_before: int
    parameters_after: int
    seed: int
    seconds: float
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    calibration: dict[str, Any] | None = None
    bytes_in_memory: int = 0


@dataclass(frozen=True)
class LayerPreview:
    """What `compress` would do to one layer.

    Attributes
    ----------
    name : str
    shape : list of int
        Shape [n, d] of the matrix.
    method : str
    bytes_before, bytes_budget : int
        Bytes stored now, and at most after compression.
    expected_error : float or None
        Expected relative error; None if it was not estimated.
    svd_rank : int
        Largest rank at which plain SVD fits the budget.
    row_weights : str
        Source of the row weights.
    """

    name: str
    shape: list[int]
    method: str
    bytes_before: int
    bytes_budget: int
    expected_error: float | None
    svd_rank: int
    row_weights: str


@dataclass(frozen=True)
class Preview:
    """What `compress` would do to a model.

    Attributes
    ----------
    layers : list of LayerPreview
        One entry for each layer that would be compressed.
    plan : Plan
        Plan with which `compress` does this; for a model size it holds each layer's method and ratio.
    """

    layers: list[LayerPreview]
    plan: Plan
