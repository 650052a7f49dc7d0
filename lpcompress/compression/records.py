"""What is asked of the layers of a model, and what was done to them."""

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


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """What was done to one layer: an entry of `layers` in the report.

    Attributes
    ----------
    name : str
    kind : str
        Its role: embedding, linear or conv.
    shape : list of int
        Of its matrix.
    method : str
    p : float
        The norm of the fit.
    clusters : int
    ranks, rows : list of int
        Dimension of each cluster's subspace, and how many rows are in it.
    parameters_before, parameters_after : int
        Stored floating-point numbers.
    bytes_before, bytes_after : int
        Everything that is stored: indices, masks, a bias and a padding row included.
    removed : float
        Share of the bytes that is gone.
    row_weights : str
        Where the weights of the rows come from.
    error_fro : float
        ||A - B||_F / ||A||_F.
    error_p : float
        The same in the entrywise l_p norm.
    error_weighted : float
        As `error_fro`, with each row's square multiplied by its row weight.
    error_calibrated : float or None
        Error of the products with the layer's inputs; None without calibration.
    svd_error_fro, svd_error_weighted, svd_error_calibrated : float or None
        The same of plain SVD, all rows and inputs alike, at the same size; None where not even rank 1 fits.
    candidates : dict of str to float
        The errors that `auto` compared, by method.
    seconds : float
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
    svd_error_fro: float | None = None
    svd_error_weighted: float | None = None
    candidates: dict[str, float] = field(default_factory=dict)
    seconds: float
    error_calibrated: float | None = None
    svd_error_calibrated: float | None = None


@dataclass(frozen=True)
class Task:
    """What is asked of one layer.

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
    """What was done to a model.

    Attributes
    ----------
    layers : list of LayerRecord
        One for each layer that was replaced.
    parameters_before, parameters_after : int
        Stored floating-point numbers of the whole model, tied ones counted once.
    seed : int
    seconds : float
    skipped : dict of str to str
        Name of a chosen layer that stays as it is -> why.
    warnings : list of str
        What to know before use.
    calibration : dict or None
        `source` of the text and number of `texts`, if there was a calibration.
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
class LayerPreview:
    """What `compress` would do to one layer.

    Attributes
    ----------
    name : str
    shape : list of int
        Of its matrix.
    method : str
    bytes_before, bytes_budget : int
        What it stores, and the most that it may store.
    expected_error : float or None
        Relative; None where no error curve was drawn.
    svd_rank : int
        The rank that the budget would buy plain SVD.
    row_weights : str
        Where the weights of the rows come from.
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
        One for each layer that would change.
    plan : Plan
        Makes `compress` do it again; with a size of the model, every layer's method and ratio.
    """

    layers: list[LayerPreview]
    plan: Plan
