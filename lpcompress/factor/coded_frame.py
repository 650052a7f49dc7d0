"""Frames: the coordinates in which the rows of a matrix are rounded, with one step for all of them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lpcompress.factor.coded_rounding import Prices
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.coded import at_levels
from lpcompress.formats.coded_stream import CLASSES, UNIT, scale_exponents

LARGEST = 127  # integer of a byte: of basis vectors always, of codes where it can be had
BLOCK = 64  # coordinates whose errors are fed back to the others in one product


@dataclass(frozen=True)
class Feedback:
    """Error feedback as in GPTQ, for entries that are multiplied by inputs of a known second moment.

    With the second moment, in this order, C = L L^T and L lower triangular, the mean squared error is
    sum_k L_kk^2 (t_k - b_k)^2, where t_k = a_k + sum_{j>k} (a_j - b_j) L_jk / L_kk depends only on later coordinates.
    They are therefore rounded from the last to the first, each b_k from t_k instead of a_k. In coordinates a_k L_kk,
    every error counts alike, so that all of them have the same step.

    Attributes
    ----------
    order : int64 Tensor of shape (d,)
        Inputs by ascending energy; the last is rounded first.
    root : Tensor of shape (d, d)
        L, float32.

    References
    ----------
    Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", ICLR 2023. Chee
    et al., "QuIP: 2-bit quantization of large language models with guarantees", NeurIPS 2023, for this form. Lifar et
    al., "WaterSIC: information-theoretically (near) optimal linear layer quantization", 2026, for the steps.
    """

    order: Tensor
    root: Tensor

    @classmethod
    def of(cls, whitener: Whitener, device: torch.device) -> "Feedback":
        """Order the inputs by energy, and make the root of their second moment triangular by a QR decomposition."""
        order = whitener.root.square().sum(dim=1).argsort(stable=True)
        root = torch.linalg.qr(whitener.root[order].T, mode="r").R.T
        root = root * root.diagonal().sign()  # signs of columns are free
        return cls(order.to(device), root.to(device, torch.float32))

    def spread(self, squares: Tensor, delta: float, prices: Prices) -> Tensor:
        """Return the mean squares of what is rounded, (d,), given those of the coordinates; both by column.

        Errors of coordinates are taken to be uncorrelated, and as large as those of Gaussian numbers.
        """
        back = (self.root / self.root.diagonal().unsqueeze(1)).square().T.contiguous().double().cpu().numpy()
        found = (squares[self.order].double() / delta**2).cpu().numpy()
        known = prices.distortions.double().cpu().numpy()
        errors = np.zeros_like(found)
        for k in reversed(range(len(found))):
            found[k] += back[k, k + 1 :] @ errors[k + 1 :]
            errors[k] = found[k] * np.interp(np.log2(max(found[k], 1e-30)) + UNIT, np.arange(CLASSES), known)
        return (torch.from_numpy(found)[self.order.argsort().cpu()] * delta**2).to(squares)

    def rounded(self, numbers: Tensor, classes: Tensor, prices: Prices) -> Tensor:
        """Round coordinates in turn, each after the errors of those before it were added to it.

        Parameters
        ----------
        numbers : Tensor of shape (rows, d)
            In steps, in the order of the columns of the matrix.
        classes : uint8 Tensor of shape (rows, d)
        prices : Prices

        Returns
        -------
        int32 Tensor of shape (rows, d)
        """
        # with y_k = a_k L_kk, t_k L_kk = y_k + sum_{j>k} (y_j - z_j) / L_jj L_jk
        back = self.root / self.root.diagonal().unsqueeze(1)  # (j, k): from error j to target k
        wanted, kinds = numbers.T[self.order], classes.T[self.order]  # one coordinate is contiguous
        targets, errors = wanted.clone(), torch.zeros_like(wanted)
        codes = torch.empty(wanted.shape, dtype=torch.int32, device=wanted.device)
        for stop in range(len(wanted), 0, -BLOCK):
            start = max(0, stop - BLOCK)
            for k in reversed(range(start, stop)):
                targets[k] += back[k + 1 : stop, k] @ errors[k + 1 : stop]
                codes[k] = prices.rounded(targets[k], kinds[k])
                errors[k] = wanted[k] - at_levels(codes[k], prices.levels)
            targets[:start] += back[start:stop, :start].T @ errors[start:stop]
        return codes[self.order.argsort()].T


@dataclass(frozen=True)
class Frame:
    """Coordinates of rows: all entries, or products with the vectors of a basis.

    Attributes
    ----------
    scales : Tensor of shape (width,)
        Row = sum over j of coordinate_j scales_j b_j, where b_j is a vector of the basis or a unit vector.
    squares : Tensor of shape (width,)
        Mean squared coordinates over all rows.
    spread : Tensor of shape (width,)
        Mean squares of the numbers that are rounded: the same, without error feedback.
    basis : int8 Tensor of shape (width, d) or None
    inverse : Tensor of shape (d, width) or None
        Coordinates = row @ inverse, by least squares.
    feedback : Feedback or None
    """

    scales: Tensor
    squares: Tensor
    spread: Tensor
    basis: Tensor | None = None
    inverse: Tensor | None = None
    feedback: Feedback | None = None

    @classmethod
    def of_entries(cls, squares: Tensor, feedback: Feedback | None) -> "Frame":
        """Return the frame of the entries, given their mean squares (d,) by column."""
        scales = torch.ones_like(squares)
        if feedback is not None:
            scales[feedback.order] = 1 / feedback.root.diagonal()
        squares = squares / scales.square()
        return cls(scales, squares, squares, feedback=feedback)

    @classmethod
    def of_axes(
        cls, axes: Tensor, moment: Tensor, rows: int, delta: float, whitener: Whitener | None = None
    ) -> "Frame":
        """Round axes (width, d) to integers of a byte and return their frame.

        An error in a vector counts once for each row, as much as the row has of it, so that the step of a vector is
        `delta` over the length of all its coordinates: a byte is enough, and the coder needs 5 bits or so of it.

        Parameters
        ----------
        axes : float64 Tensor of shape (width, d)
            Orthonormal.
        moment : float64 Tensor of shape (d, d)
            Gram matrix of the rows.
        rows : int
            Number of rows.
        delta : float
        whitener : Whitener, optional
            The rows are those of a matrix times its root; the basis is that of the matrix.
        """
        lengths = ((axes @ moment) * axes).sum(1).clamp_min(torch.finfo(axes.dtype).tiny).sqrt()
        wanted = axes if whitener is None else axes @ whitener.inverse
        largest = wanted.abs().amax(1)
        scales = (delta / lengths).clamp(largest / LARGEST, largest)
        basis = (wanted / scales.unsqueeze(1)).round_()
        vectors = basis * scales.unsqueeze(1)
        if whitener is not None:
            vectors = vectors @ whitener.root
        inverse = torch.linalg.solve(vectors @ vectors.T, vectors).T
        squares = ((inverse.T @ moment) * inverse.T).sum(1) / rows
        squares = squares.float()
        return cls(scales.float(), squares, squares, basis.to(torch.int8), inverse.float().contiguous())

    def at(self, delta: float, prices: Prices) -> "Frame":
        """Return the frame with the `spread` at a step size."""
        if self.feedback is None:
            return self
        return replace(self, spread=self.feedback.spread(self.squares, delta, prices))

    def rows(self, numbers: Tensor) -> Tensor:
        """Return the scales of rows for their classes, given their coordinates in steps: (m,)."""
        typical = self.squares.clamp_min(torch.finfo(numbers.dtype).tiny) / self.spread.mean()
        return scale_exponents((numbers.square() / typical).mean(1))

    @property
    def columns(self) -> Tensor:
        """Scales of the columns for their classes; see `formats.coded_stream.Codes`."""
        relative = self.spread.double() / self.spread.double().mean().clamp_min(1e-300)
        return (2 * relative.clamp_min(1e-9).log2()).round_().clamp_(-128, 127).to(torch.int16)

    @property
    def vectors(self) -> Tensor | None:
        """Scales of the basis vectors, for their classes."""
        return None if self.basis is None else scale_exponents(self.basis.double().square().mean(1))

    def coordinates(self, rows: Tensor) -> Tensor:
        """Return the coordinates of rows (m, d): (m, width)."""
        return rows / self.scales if self.inverse is None else rows @ self.inverse
