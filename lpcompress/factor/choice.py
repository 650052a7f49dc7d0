"""The public `factorize`, and the choice among methods behind it."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

import torch
from torch import Tensor

from lpcompress.errors import UnsuitableError
from lpcompress.factor.arguments import checked_row_weights, refuse_matrix, refuse_method
from lpcompress.factor.norms import Powers, quotients
from lpcompress.factor.preparation import Scale, beyond, prepare
from lpcompress.factor.problem import Budget, Settings
from lpcompress.factor.robust import robust
from lpcompress.factor.scaling import largest_of
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.base import Factorization
from lpcompress.methods import AUTO, DEFAULT_RATIO, METHODS, candidates, current_name, resolve
from lpcompress.progress import Progress, Told, silent

ROBUST_FROM = 0.3, 0.9  # share of the work at which lowering the l_p error begins: of one method, of several
FIRST = 0.6  # share of the fits of several methods that the first one takes: as a rule it is good enough
ROBUST_GAIN = 1.5
"""Largest factor by which the l_p loop has been seen to lower an error. Candidates whose least-squares fit is farther
behind than this are dropped."""

NEGLIGIBLE = 0.01
"""Relative error at which "auto" tries no further candidate: there is nothing left to gain. At .003 (60 % removed from
MiniLM's embedding) six classifiers changed a handful of their predictions."""

NEAR_LIMIT = 0.1  # share of the largest number of a dtype: entries of smaller matrices stay within it


@dataclass(frozen=True)
class Choice:
    """The factorization that is kept, and the weighted error of every candidate.

    Attributes
    ----------
    method : str
    factorization : Factorization
    errors : dict of str to float
        (sum w_i |a_ij - b_ij|^p / sum w_i |a_ij|^p)^(1/p) of each candidate; of candidates far behind, that of their
        least-squares fit. Empty if there is only one candidate. Candidates that cannot reach the size have no entry,
        nor have those after the first error of at most `NEGLIGIBLE`, which are not tried.
    """

    method: str
    factorization: Factorization
    errors: dict[str, float]


def factorize(
    matrix: Tensor,
    method: str = "auto",
    ratio: float = DEFAULT_RATIO,
    p: float = 2.0,
    clusters: int | None = None,
    row_weights: Tensor | None = None,
    seed: int = 0,
    *,
    starts: int = 3,
    distance_power: float = 2.0,
) -> Factorization:
    """Factor a matrix A so that it takes fewer bytes.

    Minimises sum_ij w_i |a_ij - b_ij|^p over the matrices B that the method can represent at the requested size.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        Any floating dtype; half precision is computed in float32. It is not changed.
    method : str, default="auto"
        A method of `lpcompress.methods.METHODS` that fits matrices (coded, adaptive, lp, messi, svd), or "auto" for
        the one with the least error among coded and lp.
    ratio : float, default=0.28
        Share of the matrix's bytes to remove, above 0 and below 1. Everything stored counts: indices, masks, offsets.
    p : float, default=2.0
        Entrywise l_p norm in which the error is minimised, from 1 to 2. `svd` always uses 2: it is the baseline.
    clusters : int, optional
        Number of subspaces of `messi`, largest number of `adaptive`; by default the method chooses.
    row_weights : Tensor of shape (n,), optional
        Weight w_i of each row, not negative; equal for all rows by default.
    seed : int, default=0
        Seed of every random draw: the same seed gives the same bytes. torch's global generator is not used.
    starts : int, default=3
        Number of starts of `messi`, at least 1.
    distance_power : float, default=2.0
        `messi` minimises the sum of row distances to this power, from 1 to 2.

    Returns
    -------
    Coded, LowRank or Clustered
        In the dtype and on the device of `matrix`. `dense()` multiplies out; `n_bytes` and `n_parameters` count what is
        stored.

    Raises
    ------
    LpCompressError
        If an argument is out of range, the matrix or its factorization is not finite, or the size cannot be reached
        (`BudgetError`).

    References
    ----------
    Tukan, Maalouf, Weksler, Feldman, "Compressed Deep Networks: Goodbye SVD, Hello Robust Low-Rank Approximation",
    arXiv:2009.05647, for `lp`. Maalouf, Lang, Rus, Feldman, "Deep Learning Meets Projective Clustering", ICLR 2021, for
    `messi`. `coded` and `adaptive` are our own; see `factor.methods` for what they build on.

    Examples
    --------
    >>> import torch
    >>> from lpcompress import factorize
    >>> matrix = torch.randn(400, 16) @ torch.randn(16, 64)  # of rank 16
    >>> factors = factorize(matrix, "svd", ratio=0.7)
    >>> factors.ranks, factors.shape
    ([16], (400, 64))
    >>> factors.n_bytes / (matrix.numel() * matrix.element_size())  # at most 0.3
    0.29
    >>> bool(torch.allclose(factors.dense(), matrix, atol=1e-4))
    True
    """
    settings = Settings(p, clusters, seed, starts, distance_power)
    return choose(matrix, method, ratio, settings, row_weights).factorization


def choose(
    matrix: Tensor,
    method: str,
    ratio: float,
    settings: Settings,
    row_weights: Tensor | None = None,
    progress: Progress = silent,
    whitener: Whitener | None = None,
) -> Choice:
    """Fit a method, or all candidates of "auto", and keep the one with the least weighted error.

    `prepare` scales the matrix and its rows; p < 2 is handled by the outer loop `robust`, except for methods that weigh
    rows themselves. A candidate of "auto" that cannot reach the size is dropped.

    Parameters
    ----------
    progress : Progress
        Told a few words about each step, and the share of the whole that is done.
    whitener : Whitener, optional
        Measure the error of products with inputs of this second moment instead of that of entries; p must be 2.
    others
        As for `factorize`.

    Raises
    ------
    LpCompressError
        As for `factorize`.
    """
    refuse_matrix(matrix)
    method = current_name(method)
    refuse_method(method)
    row_weights = checked_row_weights(row_weights, matrix)
    names = candidates() if method == AUTO else (method,)
    p = settings.p if any(METHODS[name].honours_p for name in names) else 2.0
    trial = _Trial(matrix, row_weights, Budget.of(matrix, ratio), settings, whitener, p)
    with torch.no_grad():
        to_lower = {name for name in names if p < 2 and METHODS[name].honours_p and not METHODS[name].weighs_rows}
        begin = ROBUST_FROM[len(names) > 1] if to_lower else 1.0
        fitted, errors = _fit_all(trial, names, progress.within(0, begin))
        for name in fitted:
            if name in to_lower:
                told = progress.within(begin, 1).about(f"lowering the l_{p:g} error of {name}")
                fitted[name] = robust(trial.plain, fitted[name], trial.budget, p, told)
                if len(names) > 1:
                    errors[name] = trial.error(name, fitted[name])
        best = min(fitted, key=lambda name: errors.get(name, 0.0))
        kept = fitted[best]
        scale = None if METHODS[best].weighs_rows else trial.scale
        del trial, fitted  # frees memory before the next step
        restored = scale.undo(kept, matrix.dtype) if scale else kept
        limit = torch.finfo(matrix.dtype).max
        if largest_of(matrix) > NEAR_LIMIT * limit and not largest_of(restored.dense()) <= limit:
            raise beyond(matrix.dtype)
    return Choice(best, restored, errors)


@dataclass
class _Trial:
    """What every candidate is given, and how they are compared; the parameters are those of `choose`."""

    matrix: Tensor
    row_weights: Tensor | None
    budget: Budget
    settings: Settings
    whitener: Whitener | None
    p: float

    @cached_property
    def scale(self) -> Scale:
        return Scale.chosen(self.matrix, self.row_weights, self.p)

    @cached_property
    def plain(self) -> Tensor:
        """The matrix with its rows scaled by their weights, made when a method first needs it."""
        return self.scale.of(self.matrix)

    def least_squares_error(self, name: str) -> float:
        """Return the error of a method's least-squares fit, found without a fit; 0 if that cannot be done.

        It needs no copy of the matrix, which a fit does as soon as rows have weights.
        """
        home = METHODS[name].least_squares_error
        if not home or self.whitener:
            return 0.0
        found: float = resolve(home)(lambda: self.scale.parts(self.matrix), self.matrix, self.budget, self.p)
        return found

    def fit(self, name: str, told: Told) -> Factorization:
        """Return the fit of one method: of the matrix if it weighs rows itself, else the least-squares fit of `plain`.

        Parameters
        ----------
        name : str
        told : callable (share)
            Takes the share of the fit that is done.

        Raises
        ------
        UnsuitableError
            If the method cannot reach the size or cannot factor this matrix.
        """
        fit, settings = resolve(METHODS[name].fit), replace(self.settings, told=told)
        try:
            if METHODS[name].weighs_rows:
                unweighted, scale = prepare(self.matrix)
                coded = fit(unweighted, self.budget, settings, self.whitener, self.row_weights)
                return scale.undo(coded, self.matrix.dtype)
            fitted: Factorization = fit(self.plain, self.budget, settings, self.whitener)
        except torch.linalg.LinAlgError as error:  # an eigenvalue decomposition that does not converge
            raise UnsuitableError(
                f"method {name} cannot factor this matrix: {error}. Choose another method."
            ) from error
        return fitted

    def error(self, name: str, fitted: Factorization) -> float:
        """Return the relative error of what `fit` returned: of products with the inputs if there is a whitener."""
        weighs_rows = METHODS[name].weighs_rows
        if self.whitener:
            dense = fitted.dense()
            return self.whitener.relative_error(self.plain, self.scale.of(dense) if weighs_rows else dense)
        # rows that `prepare` scaled have their weights in them
        powers = Powers(self.p, self.row_weights if weighs_rows else None)
        found = quotients(self.matrix if weighs_rows else self.plain, fitted.dense_parts(), [powers])
        return found[powers] ** (1 / self.p)


def _fit_all(
    trial: _Trial, names: tuple[str, ...], progress: Progress
) -> tuple[dict[str, Factorization], dict[str, float]]:
    """Return the fits worth refining and, if there are several candidates, the errors of all."""
    fitted: dict[str, Factorization] = {}
    errors: dict[str, float] = {}
    reach = inf
    for tried, name in enumerate(names):
        left = (1 - FIRST) ** tried
        told = progress.within(1 - left, 1 - (1 - FIRST) * left if len(names) > 1 else 1).about(f"fitting {name}")
        if errors and (foretold := trial.least_squares_error(name)) > reach:
            errors[name] = foretold
            continue
        try:
            fitted[name] = trial.fit(name, told)
        except UnsuitableError:  # other errors are faults of the input, which no other candidate mends
            if name == names[-1] and not fitted:
                raise
            continue
        if len(names) == 1:  # nothing to compare with
            break
        errors[name] = trial.error(name, fitted[name])
        reach = min(errors.values()) * (ROBUST_GAIN if trial.p < 2 else 1)
        fitted = {each: kept for each, kept in fitted.items() if errors[each] <= reach}
        if errors[name] <= NEGLIGIBLE:  # nothing left to gain
            break
    return fitted, errors
