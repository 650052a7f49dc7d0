"""A size of the whole model for methods that store numbers: one threshold for the singular values of all layers.

A dimension of a factored layer costs as many bytes as a row and a column have, and removes its squared singular value,
in units of the model's output, from the error. Dimensions above one threshold per byte are kept in all layers.
"""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lpcompress.compression.model_size import ModelSize, too_small
from lpcompress.compression.priors import RowWeights
from lpcompress.compression.records import Share
from lpcompress.factor.linalg import principal_axes
from lpcompress.factor.preparation import prepare
from lpcompress.factor.whitening import Whitener
from lpcompress.methods import METHODS
from lpcompress.processes import spread
from lpcompress.surgery.layer import Layer

ONE_SUBSPACE = "svd"
FEW = 8  # dimensions, below which a layer has one subspace: the tables of several would take too much of its bytes
HALF_A_BYTE = 0.5  # so that converting a ratio back to bytes does not round down by one byte


@dataclass(frozen=True)
class Spectrum:
    """Squared singular values of a layer's matrix, and what a dimension costs.

    Attributes
    ----------
    gains : float64 array of shape (dimensions,)
        Squared singular values per byte, in units of the output, descending; of the matrix with its rows scaled by the
        roots of their weights, and multiplied by the root of the second moment of its inputs.
    step : int
        Bytes of a dimension.
    beside : int
        Bytes of what is stored besides the factors.
    before : int
        Bytes of the dense layer.
    """

    gains: NDArray[np.float64]
    step: int
    beside: int
    before: int

    def size(self, threshold: float) -> int:
        """Return the bytes of the layer with the dimensions that gain more than the threshold; one at least.

        If the factors are no smaller than the dense layer, it stays dense.
        """
        rank = max(1, int((self.gains > threshold).sum()))
        return min(self.beside + rank * self.step, self.before)

    def share(self, method: str, size: int, few: int = 0) -> Share | None:
        """Return the share for a size in bytes; None if the layer stays dense.

        With fewer than `few` dimensions the layer has one subspace, whatever the method.
        """
        if size >= self.before:
            return None
        rank = (size - self.beside) // self.step
        method = ONE_SUBSPACE if rank < few else method
        loss = float(self.gains[rank:].sum() / (self.gains.sum() or 1.0))
        return Share(method, 1 - (size + HALF_A_BYTE) / self.before, loss)


def spectrum_of(layer: Layer, weights: RowWeights, moment: Tensor | None, unit: float) -> Spectrum:
    """Return the spectrum of a plain layer, whose tensors must be in memory; `unit` is that of `one_step.unit_of`."""
    matrix = layer.matrix_to_fit()
    work, scale = prepare(matrix, weights.values)
    energies, _ = principal_axes(work if moment is None else Whitener.of(moment)(work))
    step = sum(matrix.shape) * matrix.element_size()
    gains = energies.cpu().numpy() * (unit * 4.0**scale.exponent / step)
    return Spectrum(gains, step, layer.bytes_beside(), layer.stored()[1])


class OneThreshold(ModelSize):
    """Layers that keep the dimensions above one threshold.

    The sizes are those of plain low rank. Other methods use the bytes better, in all layers about alike.

    References
    ----------
    Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Transactions on Acoustics,
    Speech, and Signal Processing 36 (1988), for one multiplier.
    """

    def _shares(self, n_bytes: int) -> dict[str, Share]:
        """Find the threshold among the gains of all dimensions."""
        entries = {name: layer.matrix().numel() for name, layer in self.layers.items()}
        spectra = spread(entries, self._spectrum, self.workers)
        thresholds = np.unique(np.concatenate([[0.0], *(each.gains for each in spectra.values())]))

        def total(threshold: float) -> int:
            return sum(each.size(threshold) for each in spectra.values())

        if total(thresholds[-1]) > n_bytes:
            raise too_small(total(thresholds[-1]), n_bytes)
        threshold = thresholds[bisect_left(thresholds, True, key=lambda each: total(each) <= n_bytes)]
        few = 0 if METHODS[self.method].one_subspace else FEW + (self.settings.clusters or 0)
        shares = {name: each.share(self.method, each.size(threshold), few) for name, each in spectra.items()}
        return {name: share for name, share in shares.items() if share}

    def _spectrum(self, name: str, done: float, end: float) -> Spectrum:
        self.tell(f"{name}: computing its spectrum", done, 1)
        with self.layers[name].lend() as layer:
            return spectrum_of(layer, self.weights[name], self.moments.get(name), self.units[name])
