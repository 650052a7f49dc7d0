"""Rate-distortion optimised rounding of coordinates to integers, with prices from tables by class."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lpcompress.formats.coded import at_levels
from lpcompress.formats.coded_stream import CLASSES, SHIFTS, UNIT

PRICED = 64  # magnitudes with a price of their own; larger ones are rounded to the nearest integer
FINE = UNIT + 8  # classes from here on, of a deviation of 16 steps, are rounded to the nearest integer
COARSER = torch.cat([torch.zeros(FINE, dtype=torch.int32), torch.from_numpy(SHIFTS[FINE:CLASSES]).int()])
"""Lowest bits of the magnitudes of each class that are left out of the prices, because they are all but uniform."""

ENTROPY = 2.05  # bits of a Gaussian of unit variance, rounded finely to integers
PRICE_OF_BIT = 0.13
"""Squared error, in steps, that is worth a bit. High rates would have .1155 (the slope of 2^-2R / 12); from .1 to .2
the errors at equal bytes are within half a per cent of each other."""

PRIOR = 100  # codes' worth of a typical distribution in each class: what was not seen in the sample has a price too
LEVELS_AT_FIRST = (1.0, 0.05, 0.0)


@dataclass(frozen=True)
class Prices:
    """What the coder asks for each magnitude in each class, and what the codes stand for.

    Attributes
    ----------
    bits : Tensor of shape (CLASSES, PRICED)
        Sign included.
    levels : Tensor of shape (3,)
        See `Coded`, in steps.
    """

    bits: Tensor
    levels: Tensor

    @classmethod
    def at_first(cls, device: torch.device) -> "Prices":
        """Return the prices of distributions between Gauss and Laplace, with the standard deviations of the classes."""
        return cls(_bits_of(_typical_shares(device)), torch.tensor(LEVELS_AT_FIRST, device=device))

    @cached_property
    def thresholds(self) -> Tensor:
        """Return where the magnitude m begins to be worth less than m + 1, shape (CLASSES, PRICED)."""
        magnitudes = torch.arange(PRICED + 1, device=self.bits.device)
        levels = at_levels(magnitudes, self.levels)  # (PRICED + 1,)
        middles, gaps = (levels[1:] + levels[:-1]) / 2, (levels[1:] - levels[:-1]).clamp_min(0.1)
        dearer = torch.diff(self.bits, append=self.bits[:, -1:]).clamp(-4, 16)
        dearer[FINE:] = 0
        return middles + PRICE_OF_BIT / 2 * dearer / gaps

    @cached_property
    def distortions(self) -> Tensor:
        """Mean squared errors of Gaussian numbers with the deviation of each class, as shares of their mean squares."""
        usual = torch.linspace(-5, 5, 2001, device=self.bits.device)
        density = torch.exp(-usual.square() / 2)
        kinds = torch.arange(CLASSES, device=usual.device)
        numbers = usual * torch.exp2((kinds - UNIT) / 2).unsqueeze(1)  # (CLASSES, 2001)
        codes = self.rounded(numbers, kinds.to(torch.uint8).unsqueeze(1).expand_as(numbers).contiguous())
        errors = (numbers - at_levels(codes, self.levels)).square()
        return (errors * density).sum(1) / (numbers.square() * density).sum(1)

    def rounded(self, numbers: Tensor, classes: Tensor) -> Tensor:
        """Round numbers, in steps, to the integers that cost least: int32 of the same shape.

        Parameters
        ----------
        numbers : Tensor
        classes : uint8 Tensor of the same shape
        """
        sizes = numbers.abs()
        below = sizes.floor().int()
        places = classes.int().mul_(PRICED).add_(below.clamp_max(PRICED - 1))
        ends = self.thresholds.flatten().index_select(0, places.flatten()).view_as(sizes)
        ends = torch.where(below < PRICED - 1, ends, below + 0.5)
        codes = below + (sizes > ends)
        codes.masked_fill_(sizes < self.thresholds[:, 0].index_select(0, classes.flatten().int()).view_as(sizes), 0)
        return codes * numbers.sign().int()

    def learned(self, numbers: Tensor, classes: Tensor, codes: Tensor) -> "Prices":
        """Return the prices and levels that suit `codes`, the rounded `numbers`."""
        counts = torch.bincount(priced(codes, classes).flatten(), minlength=CLASSES * PRICED)
        counts = counts.view(CLASSES, PRICED).double()
        shares = (counts + PRIOR * _typical_shares(codes.device)) / (counts.sum(1, keepdim=True) + PRIOR)
        return Prices(_bits_of(shares), _fitted_levels(numbers.abs(), codes.abs(), self.levels))


def priced(codes: Tensor, classes: Tensor) -> Tensor:
    """Return the places of codes in the flat table of prices, `Prices.bits`: int32 of the same shape."""
    classes = classes.int()
    shifts = COARSER.to(codes.device).index_select(0, classes.flatten()).view_as(codes)
    leading = codes.abs().add_(1 << shifts >> 1).bitwise_right_shift_(shifts)
    return classes.mul_(PRICED).add_(leading.clamp_max_(PRICED - 1))


def _typical_shares(device: torch.device) -> Tensor:
    """Return how frequent each magnitude is in each class, roughly: float64 (CLASSES, PRICED)."""
    kinds = torch.arange(CLASSES, dtype=torch.float64, device=device)
    scales = torch.exp2((kinds - UNIT) / 2 - COARSER.to(device)).unsqueeze(1)
    edges = (torch.arange(PRICED, device=device) - 0.5).clamp_min(0) / scales
    beyond = (torch.erfc(edges / 2**0.5) + torch.exp(-edges * 2**0.5)) / 2
    return -torch.diff(beyond, append=torch.zeros_like(beyond[:, :1]))


def _bits_of(shares: Tensor) -> Tensor:
    """Return the bits of magnitudes, and of a sign each."""
    bits = -shares.clamp_min(1e-9).log2()
    bits[:, 1:] += 1
    bits += COARSER.to(bits.device).unsqueeze(1)
    return bits.float()


def _fitted_levels(sizes: Tensor, magnitudes: Tensor, usual: Tensor) -> Tensor:
    """Return least-squares levels; the offsets of magnitudes 1 and from 2 on, whose slope stays one."""
    small, large = magnitudes == 1, magnitudes >= 2
    excess = sizes - magnitudes
    known = usual.tolist()
    offsets = [known[1] + known[2], known[1] + 2 * known[2]]
    for place, which in enumerate((small, large)):
        count = int(which.sum())
        offsets[place] = (float((excess * which).sum()) + PRIOR * offsets[place]) / (count + PRIOR)
    first, others = offsets
    return usual.new_tensor([1.0, 2 * first - others, others - first])
