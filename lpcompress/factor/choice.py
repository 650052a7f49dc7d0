"""The one verb, `factorize`, and the table of methods behind it."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from lpcompress.errors import LpCompressError, as_per_cent
from lpcompress.factor import clustered, encoding
from lpcompress.factor.methods import svd
from lpcompress.factor.methods.adaptive import adaptive
from lpcompress.factor.methods.lp import lp
from lpcompress.factor.methods.messi import messi
from lpcompress.factor.methods.sparse import sparse
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.robust import robust
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.base import Factorization
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.sparse import SparseCoded

Fit = Callable[[Tensor, Budget, Settings, Whitener | None], Factorization]


def of_directions(fit: Callable[[Tensor, Budget, Settings], Factorization]) -> Fit:
    """Return the form of a method that fits the whitened matrix, for results that store directions: these go back."""

    def fit_seen(matrix: Tensor, budget: Budget, settings: Settings, whitener: Whitener | None) -> Factorization:
        if whitener is None:
            return fit(matrix, budget, settings)
        return whitener.undo(fit(whitener(matrix), budget, settings))

    return fit_seen


METHODS: dict[str, Fit] = {
    "sparse": sparse,
    "adaptive": of_directions(adaptive),
    "messi": of_directions(messi),
    "lp": of_directions(lp),
    "svd": of_directions(svd.svd),
}

STRUCTURES: dict[type[Factorization], tuple[Callable[..., None], Callable[..., Factorization]]] = {
    LowRank: (svd.project_like, svd.fit_like),
    Clustered: (clustered.project_like, clustered.fit_like),
    SparseCoded: (encoding.project_like, encoding.fit_like),
}
"""What `robust` iterates for each kind of result."""

LIGHTEST = 1e-8  # share of the heaviest row's weight that every row has: no row's codes may be arbitrary


AUTO = ("sparse", "adaptive", "lp")
"""`svd` is `lp` with p = 2, and `messi` is `adaptive` with equal ranks, which has not won once."""

ROBUST_GAIN = 1.5
"""The l_p loop has not been seen to lower an error by a larger factor: candidates farther behind than this after
their least-squares fit are not worth it."""

NEGLIGIBLE = 0.01
"""Relative error from which on "auto" tries no further candidate: there is nothing left to gain. At .003 (60 % off
MiniLM's embedding) six classifiers changed a handful of their predictions."""


@dataclass(frozen=True)
class Choice:
    """The factorization that was kept, and the weighted error of every candidate.

    Attributes
    ----------
    method : str
    factorization : Factorization
    errors : dict of str to float
        Empty if there was one candidate only. (sum w_i |a_ij - b_ij|^p / sum w_i |a_ij|^p)^(1/p); of candidates far
        behind, that of their least-squares fit. Candidates after one whose error is `NEGLIGIBLE` are not there.
    """

    method: str
    factorization: Factorization
    errors: dict[str, float]


def factorize(
    matrix: Tensor,
    method: str = "auto",
    ratio: float = 0.28,
    p: float = 2.0,
    clusters: int | None = None,
    row_weights: Tensor | None = None,
    seed: int = 0,
    *,
    starts: int = 3,
    distance_power: float = 2.0,
) -> Factorization:
    """Replace a matrix by factors that take `ratio` fewer bytes.

    Minimises sum_ij w_i |a_ij - b_ij|^p over what the method can express.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        Any floating dtype; half precision is computed in float32. The factors come back in this dtype.
    method : str, default="auto"
        A key of `METHODS`, or "auto" for the one with the least error.
    ratio : float, default=0.28
        Share of the matrix' bytes that is removed, in (0, 1); everything stored is counted.
    p : float, default=2.0
        Entrywise norm, in [1, 2]. `svd` is the l2 baseline and stays at 2.
    clusters : int, optional
        Number of subspaces, for `messi` and `adaptive`. By default they choose.
    row_weights : Tensor of shape (n,), optional
        Weight of each row, not negative; all equal by default.
    seed : int, default=0
        The same seed gives the same bytes.
    starts : int, default=3
        Random starts of `messi`.
    distance_power : float, default=2.0
        Power q of the row distances in `messi`, in [1, 2].

    Returns
    -------
    LowRank, Clustered or SparseCoded

    Raises
    ------
    LpCompressError
        If an argument is out of range, the matrix is not finite, or the size cannot be reached.
    """
    settings = Settings(p, clusters, seed, starts, distance_power)
    return choose(matrix, method, ratio, settings, row_weights).factorization


def choose(
    matrix: Tensor,
    method: str,
    ratio: float,
    settings: Settings,
    row_weights: Tensor | None = None,
    progress: Callable[[str], None] = lambda doing: None,
    whitener: Whitener | None = None,
) -> Choice:
    """Fit the method, or all candidates of "auto", and keep the least weighted error.

    Row weights enter by scaling rows by w^(1/p), which leaves subspaces where they are; p < 2 by the outer
    loop `robust`. A candidate of "auto" that cannot reach the size drops out.

    Parameters
    ----------
    progress : callable
        Told in a few words what begins.
    whitener : Whitener, optional
        Errors are those of products with inputs of this second moment; p must be 2. The rest as for `factorize`.

    Raises
    ------
    LpCompressError
        As for `factorize`.
    """
    candidates = AUTO if method == "auto" else (method,)
    p = 2.0 if method == "svd" else settings.p
    _refuse_bad_arguments(matrix, candidates, ratio, settings, row_weights)
    budget = Budget(int((1 - ratio) * matrix.numel() * matrix.element_size()), matrix.element_size())
    plain, lengths = weighted(matrix, row_weights, p)
    fitted: dict[str, Factorization] = {}
    errors: dict[str, float] = {}
    with torch.no_grad():
        for name in candidates:
            progress(f"fitting {name}")
            try:
                fitted[name] = METHODS[name](plain, budget, settings, whitener)
            except LpCompressError:
                if name == candidates[-1] and not fitted:
                    raise
                continue
            if len(candidates) == 1:  # nothing to compare with
                break
            errors[name] = _error(plain, fitted[name], whitener, p)
            reach = min(errors.values()) * (ROBUST_GAIN if p < 2 else 1)
            fitted = {each: kept for each, kept in fitted.items() if errors[each] <= reach}
            if errors[name] <= NEGLIGIBLE:  # nothing is left to be gained
                break
        for name in fitted if p < 2 else ():
            progress(f"lowering the l_{p:g} error of {name}")
            fitted[name] = robust(plain, fitted[name], *STRUCTURES[type(fitted[name])], budget, p)
            if len(candidates) > 1:
                errors[name] = _error(plain, fitted[name], whitener, p)
        best = min(fitted, key=lambda name: errors.get(name, 0.0))
        kept = fitted[best]
        del plain, fitted  # before more memory is needed
        kept = kept if lengths is None else kept.scale_rows(1 / lengths)
    return Choice(best, kept.to(matrix.dtype), errors)


def _error(matrix: Tensor, fitted: Factorization, whitener: Whitener | None, p: float) -> float:
    dense = fitted.dense()
    return whitener.relative_error(matrix, dense) if whitener else relative_error(matrix, dense, p)


def weighted(matrix: Tensor, row_weights: Tensor | None, p: float = 2.0) -> tuple[Tensor, Tensor | None]:
    """Return the matrix in single precision or better with rows scaled by w^(1/p), and these factors (n,)."""
    work = matrix.detach().to(torch.promote_types(matrix.dtype, torch.float32))
    if row_weights is None:
        return work, None
    shares = row_weights.to(work.device, torch.float64) / float(row_weights.max())
    lengths = shares.clamp_min(LIGHTEST).pow(1 / p).to(work.dtype)
    return work * lengths.unsqueeze(1), lengths


KINDS: dict[Any, str] = {
    Tensor: "a torch.Tensor",
    Tensor | None: "a torch.Tensor or None",
    Real: "a number",
    Integral: "a whole number",
    Integral | None: "a whole number or None",
}


def _refuse_bad_arguments(
    matrix: Tensor, methods: tuple[str, ...], ratio: float, settings: Settings, row_weights: Tensor | None
) -> None:
    """Raise `LpCompressError` for the first argument that is of a wrong type or out of range."""
    for name, value, kind in (
        ("matrix", matrix, Tensor),
        ("row_weights", row_weights, Tensor | None),
        ("ratio", ratio, Real),
        ("p", settings.p, Real),
        ("distance_power", settings.distance_power, Real),
        ("clusters", settings.clusters, Integral | None),
        ("starts", settings.starts, Integral),
        ("seed", settings.seed, Integral),
    ):
        if not isinstance(value, kind):
            raise LpCompressError(f"{name} must be {KINDS[kind]}. Got a {type(value).__name__}.")
    n_weights = None if row_weights is None else tuple(row_weights.shape)
    checks = [
        (set(methods) <= set(METHODS), f"method must be one of {', '.join(METHODS)} or auto. Got {methods[0]!r}."),
        (
            0 < ratio < 1,
            f"ratio is the share of bytes removed and must be between 0 and 1. Got {ratio}{as_per_cent(ratio)}",
        ),
        (1 <= settings.p <= 2, f"p must be between 1 and 2. Got {settings.p}."),
        (1 <= settings.distance_power <= 2, f"distance_power must be between 1 and 2. Got {settings.distance_power}."),
        (settings.clusters is None or settings.clusters >= 1, f"clusters must be at least 1. Got {settings.clusters}."),
        (settings.starts >= 1, f"starts must be at least 1. Got {settings.starts}."),
        (
            matrix.dim() == 2
            and matrix.numel() > 0
            and matrix.is_floating_point()
            and matrix.layout == torch.strided
            and not matrix.is_meta,
            f"the matrix must have two dimensions and floating-point entries, all stored. "
            f"Got shape {tuple(matrix.shape)}, {matrix.dtype}, {matrix.layout} on {matrix.device}.",
        ),
        (
            n_weights is None or n_weights == tuple(matrix.shape[:1]),
            f"row_weights must have one entry for each of the {matrix.shape[0]} rows. Got shape {n_weights}.",
        ),
    ]
    for fine, message in checks:
        if not fine:
            raise LpCompressError(message)
    if not bool(torch.isfinite(torch.stack(torch.aminmax(matrix))).all()):  # one pass; NaN passes through
        raise LpCompressError("the matrix has entries that are not finite (NaN or infinity); it cannot be factored.")
    if row_weights is not None and not bool((torch.isfinite(row_weights) & (row_weights >= 0)).all()):
        raise LpCompressError("row_weights must be finite and not negative.")
    if row_weights is not None and float(row_weights.max()) == 0:
        raise LpCompressError("row_weights must not all be zero.")
