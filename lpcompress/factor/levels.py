"""Rounding of coordinates to levels: odd multiples of half a step, with one step per row."""

import torch
from torch import Tensor

ROUNDS = 2


def fit_levels(codes: Tensor, kept: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round the coordinates that are not in `kept`, fitting levels and steps alternately.

    Parameters
    ----------
    codes : Tensor of shape (rows, width)
    kept : bool Tensor of shape (rows, width)
        Coordinates that are stored as numbers.
    bits : int
        There are 2^bits levels; with 0 bits everything is rounded to zero.

    Returns
    -------
    levels : Tensor of shape (rows, width)
    steps : Tensor of shape (rows,)
        Least-squares steps for the levels. The first step makes the levels reach the largest coordinate.
    """
    if not bits:
        return torch.zeros_like(codes), codes.new_zeros(len(codes))
    small, least = codes.masked_fill(kept, 0), torch.finfo(codes.dtype).tiny
    steps = small.abs().amax(dim=1) / 2 ** (bits - 1)
    for _ in range(ROUNDS if bits > 1 else 1):
        levels = nearest_levels(small, steps.unsqueeze(1), bits)
        inside = levels.masked_fill(kept, 0)
        steps = (small * inside).sum(dim=1) / inside.square().sum(dim=1).clamp_min(least)
    return levels, steps


def nearest_levels(codes: Tensor, steps: Tensor, bits: int) -> Tensor:
    """Return the level nearest to each of `codes`; `steps` must broadcast with `codes`."""
    if not bits:
        return torch.zeros_like(codes)
    half = 2 ** (bits - 1)
    return (codes / steps.clamp_min(torch.finfo(codes.dtype).tiny)).floor_().clamp_(-half, half - 1).add_(0.5)


def decode(codes: Tensor, kept: Tensor, steps: Tensor, bits: int) -> Tensor:
    """Return the decoded coordinates: those in `kept` as they are, the others at their nearest level."""
    return torch.where(kept, codes, nearest_levels(codes, steps, bits).mul_(steps))
