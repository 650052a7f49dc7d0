"""Error feedback as in GPTQ: coordinates are rounded in turn, each compensating for the errors of those before it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lpcompress.factor.levels import decode
from lpcompress.factor.norms import row_powers
from lpcompress.factor.whitening import Whitener

BLOCK = 64  # coordinates whose errors are fed back to the others in one product


@dataclass(frozen=True)
class Compensation:
    """The second moment of a layer's inputs, reordered, as C = L L^T with L lower triangular.

    The mean squared error of a row b that replaces a row a is sum_k L_kk^2 (t_k - b_k)^2, where
    t_k = a_k + sum_{j>k} (a_j - b_j) L_jk / L_kk depends only on later coordinates in this order. The coordinates are
    therefore rounded from the last to the first, each b_k from t_k instead of a_k. Inputs of high energy come last:
    they are rounded while other coordinates are left to compensate for them. (On the layers of small BERT classifiers
    this left a tenth less error than the order of the columns and a quarter less than the reverse order. Choosing the
    numbers by magnitude times the weight of the column was no better than by magnitude; nor was fitting the steps to
    weighted columns.)

    Attributes
    ----------
    order : int64 Tensor of shape (d,)
        Inputs by ascending energy.
    root : Tensor of shape (d, d)
        L, float64.

    References
    ----------
    Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", ICLR 2023,
    algorithm 1, with the order of its published code. Chee et al., "QuIP: 2-bit quantization of large language models
    with guarantees", NeurIPS 2023, for this form, which gives the same result. Frantar and Alistarh, "SparseGPT:
    massive language models can be accurately pruned in one-shot", ICML 2023, for weights that are dropped or stored
    exactly.
    """

    order: Tensor
    root: Tensor

    @classmethod
    def of(cls, whitener: Whitener) -> "Compensation":
        """Order the inputs by energy, and make the root of their second moment triangular by a QR decomposition."""
        order = whitener.root.square().sum(dim=1).argsort(stable=True)
        return cls(order, torch.linalg.qr(whitener.root[order].T, mode="r").R.T)

    def energies(self, rows: Tensor) -> Tensor:
        """Return the mean squared product of each of `rows` (m, d) with the inputs, float64 (m,)."""
        return row_powers(rows[:, self.order] @ self.root.to(rows.dtype))

    def __call__(self, codes: Tensor, kept: Tensor, steps: Tensor, bits: int) -> Tensor:
        """Return the compensated codes, to be stored and rounded instead of `codes`.

        Rows whose error compensation does not lower are returned unchanged.

        Parameters
        ----------
        codes : Tensor of shape (rows, d)
        kept : bool Tensor of shape (rows, d)
            Coordinates that are stored as numbers: they compensate for others and have no error of their own.
        steps : Tensor of shape (rows,)
        bits : int
            Bits per level of the other coordinates.

        Returns
        -------
        Tensor of shape (rows, d)
        """
        root = self.root.to(codes.dtype)
        feedback = root / root.diagonal()
        wanted, numbers = codes.T[self.order], kept.T[self.order]  # (d, rows): one coordinate is contiguous
        targets, errors = wanted.clone(), torch.zeros_like(wanted)
        for stop in range(len(wanted), 0, -BLOCK):
            start = max(0, stop - BLOCK)
            for k in reversed(range(start, stop)):
                targets[k] += feedback[k + 1 : stop, k] @ errors[k + 1 : stop]
                errors[k] = wanted[k] - decode(targets[k], numbers[k], steps, bits)
            targets[:start] += feedback[start:stop, :start].T @ errors[start:stop]
        changed = torch.empty_like(codes)
        changed[:, self.order] = targets.T
        before, after = (
            self.energies(codes - decode(each, kept, steps.unsqueeze(1), bits)) for each in (codes, changed)
        )
        return torch.where((after < before).unsqueeze(1), changed, codes)
