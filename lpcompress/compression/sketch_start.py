"""Make sketched layers from dense ones, for training."""

import hashlib
from typing import Any

from torch import Tensor, nn

from lpcompress.errors import LpCompressError, UnsuitableError
from lpcompress.factor.methods.sketch import largest_sketch, nearest_sketch, unbiased_sketch
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Budget, Settings, refuse_ratio
from lpcompress.formats.module import FactoredMatrix, window_of
from lpcompress.formats.signs import LARGEST_SEED
from lpcompress.formats.sketched import Sketched
from lpcompress.nn.registry import from_factorization, role_of
from lpcompress.progress import Progress

STARTS = {"nearest": nearest_sketch, "unbiased": unbiased_sketch}


def sketched_like(
    like: Any,
    ratio: float | None = None,
    *,
    sketch_size: int | None = None,
    repetitions: int = 1,
    seed: int,
    start: str = "nearest",
) -> Any:
    """Return a sketched layer to replace a dense one. It is unusable until trained.

    Parameters
    ----------
    like : nn.Linear, Conv1D, nn.Conv1d, nn.Conv2d or BareWeight
        The dense layer, with a matrix of shape (n, d). The result has its geometry, device, dtype, bias and training
        mode.
    ratio : float, optional
        Share of the layer's stored bytes to remove, bias included, in (0, 1). The sketch is the largest that fits.
    sketch_size : int, optional
        Sketch size k, at least 1. Exactly one of `ratio` and `sketch_size` must be given.
    repetitions : int, default=1
        Number l of independent sketches, at least 1. Error and size depend only on the product l k.
    seed : int
        Seed of the random signs. Give each layer of a network a different one.
    start : str, default="nearest"
        `nearest`: the sketch nearest to the dense weight, given the signs. `unbiased`: the paper's sketch, whose mean
        over seeds is the dense weight, but which is farther from it than zero is.

    Returns
    -------
    SketchedLinear, SketchedConv1d, SketchedConv2d or SketchedBareWeight

    Raises
    ------
    LpCompressError
        If the layer cannot be sketched, an argument is out of range, or the size cannot be reached.

    References
    ----------
    Kasiviswanathan, Narodytska, Jin, "Network Approximation using Tensor Sketching", IJCAI 2018.

    Examples
    --------
    >>> sketched_like(nn.Linear(256, 128), ratio=0.5, seed=0)
    SketchedLinear(kind=sketched_linear, shape=[128, 256], sketch_size=42, repetitions=1, seed=0)
    """
    if (ratio is None) == (sketch_size is None):
        raise LpCompressError(
            f"give exactly one of ratio and sketch_size. Got ratio={ratio}, sketch_size={sketch_size}."
        )
    if start not in STARTS:
        raise LpCompressError(f"start must be one of {', '.join(STARTS)}. Got {start!r}.")
    matrix, window = sketchable_matrix(like), window_of(like)
    size: Any = sketch_size
    if ratio is not None:
        refuse_ratio(ratio)
        bias = 0 if getattr(like, "bias", None) is None else like.bias.numel()
        budget = int((1 - ratio) * (matrix.numel() + bias) * matrix.element_size()) - bias * matrix.element_size()
        size = largest_sketch(matrix, budget, repetitions, window)
    for name, value in {"sketch_size": size, "repetitions": repetitions}.items():
        if type(value) is not int or value < 1:
            raise LpCompressError(f"{name} must be an integer of at least 1. Got {value!r}.")
    return from_factorization(STARTS[start](matrix, size, repetitions, seed, window), like)


def fit_layer(
    name: str, module: nn.Module, matrix: Tensor, share: float, settings: Settings, progress: Progress
) -> Sketched:
    """Sketch a layer of a model: the method `sketch` of `compress`.

    The signs are derived from the seed and the layer's name, so that each layer has different signs, and the same ones
    whichever other layers are compressed.

    Parameters
    ----------
    name : str
        Name of the layer in its model.
    module : nn.Module
        The layer.
    matrix : Tensor of shape (n, d)
        Matrix of the layer, on the device to fit on.
    share : float
        Share of the matrix's bytes to remove.
    settings : Settings
    progress : Progress
    """
    sketchable_matrix(module)
    progress("sketching")
    window = window_of(module)
    size = largest_sketch(matrix, Budget.of(matrix, share).n_bytes, 1, window)
    digest = hashlib.sha256(f"{settings.seed} {name}".encode()).digest()
    return nearest_sketch(matrix, size, 1, int.from_bytes(digest[:5]) % LARGEST_SEED, window)


def sketchable_matrix(like: Any) -> Tensor:
    """Return the matrix (n, d) of a plain layer that can be sketched.

    Raises
    ------
    UnsuitableError
        If the layer is an embedding: sketching its rows mixes tokens and saves next to nothing, since there are far
        more rows than columns, and sketching its columns is a random projection.
    LpCompressError
        If the layer has no matrix, or computes more than a product with it.
    """
    role = role_of(like)
    if role is None:
        raise LpCompressError(f"the layer must be linear or a convolution to be sketched. Got {type(like).__name__}.")
    if role.needs_rows:
        raise UnsuitableError(
            "sketching an embedding does not pay: with 28 % of MiniLM's removed, the relative error of the nearest"
            " sketch is 0.54 and SVD's is 0.30. Ask for --layers linear or conv, or for another method."
        )
    role.refuse(like)
    return role.matrix_of(like).detach()


def sketch_error(module: FactoredMatrix, like: Any) -> float:
    """Return the relative error ||W - W'||_F / ||W||_F of a sketched layer's weight W' against the dense weight W."""
    return relative_error(like.weight.detach().flatten(1), module.dense().detach().flatten(1))
