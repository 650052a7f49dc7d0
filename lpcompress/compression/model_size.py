"""A size of the whole model that layers share: what `OneStep` and `OneThreshold` have in common."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lpcompress.compression.priors import RowWeights
from lpcompress.compression.records import Share
from lpcompress.errors import BudgetError
from lpcompress.factor.problem import Settings
from lpcompress.processes import Workers
from lpcompress.progress import Progress
from lpcompress.surgery.layer import Layer


@dataclass(frozen=True)
class ModelSize:
    """The layers of a model that share its size.

    Attributes
    ----------
    layers : mapping of str to Layer
    weights : mapping of str to RowWeights
    moments : mapping of str to Tensor of shape (d, d)
        Second moments of inputs, of the layers for which they were measured.
    units : mapping of str to float
        See `one_step.unit_of`.
    settings : Settings
    method : str
    workers : Workers
    tell : Progress
    """

    layers: Mapping[str, Layer]
    weights: Mapping[str, RowWeights]
    moments: Mapping[str, Tensor]
    units: Mapping[str, float]
    settings: Settings
    method: str
    workers: Workers
    tell: Progress

    def shares(self, n_bytes: int) -> dict[str, Share]:
        """Return the share of every layer with which all of them together take at most `n_bytes`.

        Biases and padding rows are counted. Layers that would not become smaller stay dense and have no entry.

        Raises
        ------
        BudgetError
            If their smallest forms take more, or `n_bytes` is no less than the dense layers take.
        """
        before = sum(layer.stored()[1] for layer in self.layers.values())
        if n_bytes >= before:
            raise BudgetError(
                f"the chosen layers take {before:,} bytes; the size allows {n_bytes:,}. Ask for a smaller model."
            )
        return self._shares(n_bytes)

    def _shares(self, n_bytes: int) -> dict[str, Share]:
        """Do so, for fewer bytes than the dense layers take."""
        raise NotImplementedError


def too_small(least: int, n_bytes: int) -> BudgetError:
    """Return the error for a size of `n_bytes` when the layers take at least `least` bytes."""
    return BudgetError(
        f"the size leaves {max(n_bytes, 0):,} bytes for the chosen layers; their smallest forms need {least:,}. Ask for"
        " a larger model, or choose more layers."
    )
