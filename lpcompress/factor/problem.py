"""What every method is asked: how many bytes it may store, and the settings they share."""

from dataclasses import dataclass

from lpcompress.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """Bytes that a factorization may take.

    Attributes
    ----------
    n_bytes : int
        Everything stored is counted: numbers, indices, masks, offsets.
    item : int
        Bytes of one stored number (the checkpoint's own dtype).
    """

    n_bytes: int
    item: int

    def rank(self, rows: int, columns: int) -> int:
        """Return the largest rank whose two factors fit: floor(numbers / (n + d)).

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
        """Return the error that says how many bytes would be needed."""
        return BudgetError(
            f"the asked size leaves {max(self.n_bytes, 0):,} bytes for this layer, but the smallest factorization "
            f"needs {needed:,}. Ask for a smaller ratio (ratio is the share of bytes removed)."
        )


@dataclass(frozen=True)
class Settings:
    """What the user may choose, the same for all methods.

    Attributes
    ----------
    p : float
        Entrywise norm in which the error is measured, in [1, 2].
    clusters : int or None
        Number of subspaces; None lets the method choose.
    seed : int
        Seed of every random draw.
    starts : int
        Random starts of `messi`.
    distance_power : float
        `messi` minimises the sum of row distances to this power q, in [1, 2].
    """

    p: float = 2.0
    clusters: int | None = None
    seed: int = 0
    starts: int = 3
    distance_power: float = 2.0
