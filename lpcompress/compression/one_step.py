"""A size of the whole model: one step size for the codes of all layers, in units of the model's output.

With one step for everything, a bit lowers the error of the output equally wherever it is spent, so nothing has to be
divided: the size of the model is found by bisection over that one number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import exp, log

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from lpcompress.compression.calibration import Calibration
from lpcompress.compression.model_size import ModelSize, too_small
from lpcompress.compression.priors import RowWeights
from lpcompress.compression.records import Share
from lpcompress.factor.methods.coded import at_delta, sizes_at
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.packing import CHUNK
from lpcompress.processes import spread
from lpcompress.surgery.layer import Layer

EMBEDDING_UNIT = 0.4
"""What an error of the embedding of words or positions counts for, relative to what the derivatives say.

They overrate it: a row's error is the same wherever its token stands, and the normalisation behind the embedding
takes part of it. At 5 % of their bytes, classifiers for SST-2, MRPC, STS-B and CoLA moved less at 0.4 than at 0.15: by
.062 instead of .103 of their variance, .22 instead of .27, .035 instead of .052, and .85 instead of 1.81.
"""
EMBEDDING_SENSITIVITY = 10.0
"""Sensitivity of the output to the relative error of the word embedding, if that of a linear layer is 1: without
calibration. On classifiers for MRPC and CoLA, 5 % noise in the embedding moved the output 5 to 20 times as far as in
the median linear layer."""
LEAST_UNIT = 1e-30  # of a layer that the output ignores
ROUNDS = 5  # of encoding all layers, at most
FULL = 0.99  # share of the limit that is enough
AIM = 0.997  # share of the limit that is aimed at


@dataclass(frozen=True)
class Sizes:
    """Bytes of one layer's codes at a few step sizes.

    Attributes
    ----------
    deltas : sequence of float
        Ascending.
    n_bytes : sequence of float
        Estimates for `deltas`.
    losses : sequence of float
        Relative squared errors.
    correction : float
        True size as a share of the estimate, from the last encoding.
    """

    deltas: tuple[float, ...]
    n_bytes: tuple[float, ...]
    losses: tuple[float, ...]
    correction: float = 1.0

    def at(self, delta: float) -> float:
        """Return the bytes at a step size, interpolated."""
        return self.correction * exp(self._interpolated(self.n_bytes, delta))

    def loss(self, delta: float) -> float:
        """Return the relative squared error at a step size, interpolated."""
        return exp(self._interpolated(self.losses, delta))

    def _interpolated(self, values: tuple[float, ...], delta: float) -> float:
        within = min(max(delta, self.deltas[0]), self.deltas[-1])
        curve = PchipInterpolator(np.log(self.deltas), np.log(np.maximum(values, 1e-30)))
        return float(curve(log(within)))


def unit_of(layer: Layer, weights: RowWeights, measured: Calibration | None) -> float:
    """Return how much the output changes per squared error of a row of the largest weight, up to a common factor.

    Parameters
    ----------
    layer : Layer
        Its tensors must be in memory.
    weights : RowWeights
        Of the rows of the layer.
    measured : Calibration or None
        Without it, or for a layer that does not run, the sensitivity is guessed.
    """
    slope = measured.slopes.get(layer.name) if measured else None
    moment = measured.moments.get(layer.name) if measured and layer.role != "embedding" else None
    if slope is not None and moment is not None:
        most = 1.0 if weights.values is None else float(weights.values.max() / weights.values.mean())
        return most * slope * float(moment.diagonal().mean()) or LEAST_UNIT
    rows = layer.matrix().shape[0]
    shares = None if weights.values is None else weights.values / weights.values.sum()
    largest = 1 / rows if shares is None else float(shares.max())
    if measured and slope is not None:
        most = largest if layer.is_word_embedding else 1 / measured.tokens_per_text  # each position once in a text
        return EMBEDDING_UNIT * most * slope or LEAST_UNIT
    squares = torch.cat([rows.double().square().sum(1) for rows in layer.matrix_to_fit().split(CHUNK)]).cpu()
    energy = float(squares.mean() if shares is None else squares @ shares)
    sensitivity = EMBEDDING_SENSITIVITY if layer.is_word_embedding else 1.0
    return sensitivity * largest / energy if energy else 1.0


class OneStep(ModelSize):
    """Layers that are encoded with one step size."""

    def _shares(self, n_bytes: int) -> dict[str, Share]:
        """Find the step size by encoding all layers, at most `ROUNDS` times."""
        before = {name: layer.stored()[1] for name, layer in self.layers.items()}
        entries = {name: layer.matrix().numel() for name, layer in self.layers.items()}
        sizes = spread(entries, self._sizes, self.workers)
        beside = {name: layer.bytes_beside() for name, layer in self.layers.items()}
        if n_bytes <= sum(beside.values()):
            raise too_small(sum(beside.values()), n_bytes)
        goal, best = AIM * n_bytes, None
        for _ in range(ROUNDS):
            deltas = self._deltas(sizes, before, beside, goal)
            coded = {name: entries[name] for name in deltas}
            exact = spread(coded, partial(self._exact, deltas), self.workers)
            total = sum(exact[name] + beside[name] if name in exact else before[name] for name in before)
            if total <= n_bytes:
                best = {
                    name: Share(
                        self.method,
                        1 - (size + beside[name]) / before[name],
                        sizes[name].loss(deltas[name]),
                        deltas[name],
                    )
                    for name, size in exact.items()
                }
                if total >= FULL * n_bytes:
                    break
            sizes = sizes | {name: _corrected(sizes[name], deltas[name], size) for name, size in exact.items()}
        if best is None:
            raise too_small(total, n_bytes)
        return best

    def _deltas(
        self, sizes: Mapping[str, Sizes], before: Mapping[str, int], beside: Mapping[str, int], goal: float
    ) -> dict[str, float]:
        """Return the step sizes of the layers that become smaller, for an estimated total of `goal` bytes."""

        def at(step: float) -> dict[str, float]:
            return {name: exp(step) / self.units[name] ** 0.5 for name in sizes}

        def takes(name: str, delta: float) -> float:
            return min(sizes[name].at(delta) + beside[name], before[name])

        def excess(step: float) -> float:
            return log(sum(takes(name, delta) for name, delta in at(step).items()) / goal)

        ends = [log(each.deltas[end] * self.units[name] ** 0.5) for name, each in sizes.items() for end in (0, -1)]
        low, high = min(ends), max(ends)
        step = low if excess(low) <= 0 else high if excess(high) >= 0 else float(brentq(excess, low, high, xtol=1e-4))
        return {name: delta for name, delta in at(step).items() if takes(name, delta) < before[name]}

    def _sizes(self, name: str, done: float, end: float) -> Sizes:
        self.tell(f"{name}: estimating sizes", done, 1)
        with self.layers[name].lend() as layer:
            found = sizes_at(layer.matrix_to_fit(), self._whitener(name), self.weights[name].values, self.settings)
        return Sizes(*found)

    def _exact(self, deltas: Mapping[str, float], name: str, done: float, end: float) -> int:
        told = self.tell.within(done, end).about(f"{name}: encoding")
        with self.layers[name].lend() as layer:
            matrix = layer.matrix_to_fit()
        settings = replace(self.settings, told=told)
        return at_delta(matrix, deltas[name], self._whitener(name), self.weights[name].values, settings).n_bytes

    def _whitener(self, name: str) -> Whitener | None:
        return Whitener.of(self.moments[name]) if name in self.moments else None


def _corrected(sizes: Sizes, delta: float, true: int) -> Sizes:
    """Return `sizes` with the correction that a true size implies."""
    return replace(sizes, correction=sizes.correction * true / sizes.at(delta))
