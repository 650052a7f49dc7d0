"""From a dense layer to a sketched one of a given size, as a start for training."""

from typing import Any

from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget
from lpcompress.factor.sketch import nearest_sketch, unbiased_sketch
from lpcompress.nn.sketch.convolution import SketchedConv1d, SketchedConv2d
from lpcompress.nn.sketch.layer import SketchedLayer
from lpcompress.nn.sketch.linear import SketchedLinear

STARTS = {"nearest": nearest_sketch, "unbiased": unbiased_sketch}
SKETCHES: dict[type[nn.Module], type[SketchedLayer]] = {
    layer.replaces: layer for layer in (SketchedLinear, SketchedConv1d, SketchedConv2d)
}


def sketched_like(
    like: Any,
    ratio: float | None = None,
    *,
    sketch_size: int | None = None,
    repetitions: int = 1,
    seed: int,
    start: str = "nearest",
) -> Any:
    """Return the sketched layer that is to be trained in the place of a dense one.

    Parameters
    ----------
    like : nn.Linear, nn.Conv1d or nn.Conv2d
        The dense layer; the new one has its geometry, device, dtype, bias and mode.
    ratio : float, optional
        Share of the layer's stored bytes to remove, in (0, 1), bias counted: gives the largest sketches that fit.
    sketch_size : int, optional
        k itself. Exactly one of `ratio` and `sketch_size` must be given.
    repetitions : int, default=1
        l. Errors and size depend on l k alone.
    seed : int
        Give every layer of a network its own.
    start : str, default="nearest"
        `nearest`: nearest to the dense weight, given the signs. `unbiased`: the paper's sketch, whose mean over seeds
        is the dense weight, but which is farther from it than zero.

    Returns
    -------
    SketchedLinear, SketchedConv1d or SketchedConv2d

    Raises
    ------
    LpCompressError
        If the layer cannot be sketched, an argument is out of range, or the size cannot be reached.
    """
    if (ratio is None) == (sketch_size is None):
        raise LpCompressError(f"give ratio or sketch_size, one of them. Got ratio={ratio}, sketch_size={sketch_size}.")
    if start not in STARTS:
        raise LpCompressError(f"start must be one of {', '.join(STARTS)}. Got {start!r}.")
    if type(like) not in SKETCHES:
        known = ", ".join(f"torch.nn.{plain.__name__}" for plain in SKETCHES)
        raise LpCompressError(f"the layer must be a plain {known}. Got {type(like).__name__}.")
    cls = SKETCHES[type(like)]
    cls.refuse(like)
    size: Any = sketch_size if ratio is None else largest_size(like, ratio, repetitions)
    for name, value in {"sketch_size": size, "repetitions": repetitions}.items():
        if type(value) is not int or value < 1:
            raise LpCompressError(f"{name} must be an integer of at least 1. Got {value!r}.")
    sketch = STARTS[start](like.weight.flatten(1), size, repetitions, seed, like.weight[0, 0].numel())
    module = cls.from_spec(cls.spec_for(sketch), like)
    module.fill(sketch, like)
    return module


def largest_size(like: Any, ratio: float, repetitions: int) -> int:
    """Return the largest k whose layer takes at least `ratio` fewer bytes than `like`."""
    if not 0 < ratio < 1:
        raise LpCompressError(f"ratio is the share of bytes removed and must be between 0 and 1. Got {ratio}.")
    outputs, inputs, *_ = like.weight.shape
    item, window = like.weight.element_size(), like.weight[0, 0].numel()
    bias = 0 if like.bias is None else outputs
    budget = Budget(int((1 - ratio) * (like.weight.numel() + bias) * item) - bias * item, item)
    unit = repetitions * window
    return budget.rank(unit * outputs, unit * inputs)


def sketch_error(module: SketchedLayer, like: Any) -> float:
    """Return ||W - W'||_F / ||W||_F between the weights of a dense layer and of a sketched one."""
    return relative_error(like.weight.detach().flatten(1), module.dense().detach().flatten(1))
