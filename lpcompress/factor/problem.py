"""The arguments of every fit besides the matrix: the budget of bytes, and the settings that all methods share."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from lpcompress.errors import BudgetError, LpCompressError, as_per_cent
from lpcompress.factor.crew import ALONE, Crew
from lpcompress.progress import Told, unheard


@dataclass(frozen=True)
class Budget:
    """Bytes that a factorization may take.

    Attributes
    ----------
    n_bytes : int
        Everything stored is counted: numbers, indices, masks, offsets.
    item : int
        Bytes of one stored number, in the checkpoint's dtype.
    """

    n_bytes: int
    item: int

    @classmethod
    def of(cls, matrix: Tensor, ratio: float) -> "Budget":
        """Return the bytes of a matrix that are left when the share `ratio` is removed.

        Raises
        ------
        LpCompressError
            If `ratio` is not between 0 and 1.

        Examples
        --------
        >>> import torch
        >>> Budget.of(torch.zeros(100, 25), ratio=0.75)
        Budget(n_bytes=2500, item=4)
        """
        refuse_ratio(ratio)
        item = matrix.element_size()
        return cls(int((1 - ratio) * matrix.numel() * item), item)

    def rank(self, rows: int, columns: int) -> int:
        """Return the largest rank whose two factors fit: floor(numbers / (n + d)), at most min(n, d).

        Raises
        ------
        BudgetError
            If not even rank 1 fits.
        """
        rank = self.n_bytes // (self.item * (rows + columns))
        if rank < 1:
            raise self.too_small(self.item * (rows + columns))
        return min(rank, rows, columns)

    def too_small(self, needed: int) -> BudgetError:
        """Return the error for a budget below the `needed` bytes."""
        return BudgetError(
            f"the requested size leaves {max(self.n_bytes, 0):,} bytes for this layer, but the smallest factorization "
            f"needs {needed:,}. Ask for a smaller ratio (ratio is the share of bytes removed)."
        )


@dataclass(frozen=True)
class Bound:
    """Allowed type and range of a number.

    Attributes
    ----------
    kind : type
        `Real` or `Integral`.
    least, most : float
        Limits, both included.
    optional : bool
        Whether None is allowed too.
    """

    kind: type
    least: float = float("-inf")
    most: float = float("inf")
    optional: bool = False

    def refuse(self, name: str, value: Any) -> None:
        """Raise LpCompressError unless `value`, passed as the argument `name`, is allowed."""
        if value is None and self.optional:
            return
        if not isinstance(value, self.kind):
            what = ("a whole number" if self.kind is Integral else "a number") + " or None" * self.optional
            raise LpCompressError(f"{name} must be {what}. Got a {type(value).__name__}.")
        if not self.least <= value <= self.most:  # type: ignore[operator]
            limits = f"at least {self.least}" if self.most == float("inf") else f"between {self.least} and {self.most}"
            raise LpCompressError(f"{name} must be {limits}. Got {value}.")


BOUNDS = {
    "p": Bound(Real, least=1, most=2),
    "clusters": Bound(Integral, least=1, optional=True),
    "seed": Bound(Integral, least=-(2**63), most=2**63 - 1),  # what torch's generators take
    "starts": Bound(Integral, least=1),
    "distance_power": Bound(Real, least=1, most=2),
}
"""Bounds of the settings."""


@dataclass(frozen=True)
class Settings:
    """User settings, the same for all methods.

    Attributes
    ----------
    p : float, default=2.0
        Entrywise norm in which the error is measured.
    clusters : int, optional
        Number of subspaces; by default the method chooses.
    seed : int, default=0
        Seed of every random draw.
    starts : int, default=3
        Number of starts of `messi`.
    distance_power : float, default=2.0
        `messi` minimises the sum of row distances to this power q.
    crew : Crew
        Processes that share the fit, with the same arguments in each; by default this process alone.
    told : callable (share)
        Takes the share of the fit that is done, a guess that only rises; by default nobody is told.

    Raises
    ------
    LpCompressError
        If a setting is outside its bound in `BOUNDS`.
    """

    p: float = 2.0
    clusters: int | None = None
    seed: int = 0
    starts: int = 3
    distance_power: float = 2.0
    crew: Crew = ALONE
    told: Told = unheard

    def __post_init__(self) -> None:
        for name, bound in BOUNDS.items():
            bound.refuse(name, getattr(self, name))


def refuse_ratio(ratio: Any) -> None:
    """Raise LpCompressError unless `ratio` is a number between 0 and 1, both excluded."""
    if not isinstance(ratio, Real):
        raise LpCompressError(f"ratio must be a number. Got a {type(ratio).__name__}.")
    if not 0 < float(ratio) < 1:
        raise LpCompressError(
            f"ratio is the share of bytes removed and must be between 0 and 1. Got {ratio}{as_per_cent(float(ratio))}"
        )
