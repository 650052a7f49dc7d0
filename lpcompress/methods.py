"""The table of methods: one row holds everything the package knows about a method.

Functions are named as text, "module:function", and imported when they are needed, so that `--help` and checking a plan
do not import torch.

To add a method, write a file in `factor.methods` with its fit, and its curve if it supports a whole-model size
(`target_size`, `max_bytes`). Then add a row here.
"""

import importlib
from dataclasses import dataclass
from typing import Any

AUTO = "auto"
"""Not a method of its own: fits several candidates and keeps the one with the smallest error."""

ONE_STEP = "coded"
"""The method whose step size, one for all layers, decides the size of a whole model."""

DEFAULT_RATIO = 0.28
"""Share of stored bytes removed when no size is given, as in the paper on robust low-rank approximation."""


@dataclass(frozen=True)
class Method:
    """A row of the table: what a method does and where its functions are.

    Attributes
    ----------
    name : str
    help : str
        What it does, in one line.
    fit : str
        "module:function" that fits a matrix: (matrix, budget, settings, whitener) -> Factorization. Empty for a method
        with a `layer_fit`.
    layer_fit : str
        "module:function" that fits a layer, for a method that needs more than the layer's matrix.
    curve : str
        "module:function" that returns the error at many sizes: (matrix, budget, settings, whitener) -> Curve. Empty if
        the method does not support a whole-model size.
    candidate : bool
        Whether `auto` tries it.
    candidate_under_size : bool
        Whether `auto` tries it under a whole-model size.
    honours_p : bool
        Whether p changes its fit; if not, it is fitted in the l_2 norm.
    one_subspace : bool
        Whether it has a single subspace, so that more than one cluster is an error.
    weighs_rows : bool
        Whether its fit takes the row weights, as a fifth argument, because they decide more than the rows' lengths.
    needs_training : bool
        Whether its result is unusable until trained.
    demo_p : float or None
        Norm in which `lpcompress demo` runs it; None leaves it out.
    """

    name: str
    help: str
    fit: str = ""
    layer_fit: str = ""
    curve: str = ""
    candidate: bool = False
    candidate_under_size: bool = False
    honours_p: bool = True
    one_subspace: bool = False
    weighs_rows: bool = False
    needs_training: bool = False
    demo_p: float | None = None


METHODS = {
    method.name: method
    for method in (
        Method(
            "sparse",
            "full-precision values for the largest coordinates of each row, at most 8 bits for the others",
            fit="lpcompress.factor.methods.sparse:sparse",
            curve="lpcompress.factor.methods.sparse:sparse_curve",
            candidate=True,
            candidate_under_size=True,
            demo_p=2.0,
        ),
        Method(
            "coded",
            "integers with one step for everything, entropy coded; smallest at equal error",
            fit="lpcompress.factor.methods.coded:coded",
            curve="lpcompress.factor.methods.coded:coded_curve",
            honours_p=False,
            one_subspace=True,
            weighs_rows=True,
            demo_p=2.0,
        ),
        Method(
            "adaptive",
            "several subspaces of different dimensions; rows with large weights get more",
            fit="lpcompress.factor.methods.adaptive:adaptive",
            curve="lpcompress.factor.methods.adaptive:adaptive_curve",
            candidate=True,  # not under a size: its curve needs a fit at every size, and it loses to sparse
            demo_p=2.0,
        ),
        Method(
            "lp",
            "one subspace, entrywise l_p error; p = 1 is robust to outliers",
            fit="lpcompress.factor.methods.lp:lp",
            curve="lpcompress.factor.methods.svd:low_rank_curve",  # the loss in other norms follows the l_2 loss
            candidate=True,
            candidate_under_size=True,
            one_subspace=True,
            demo_p=1.0,
        ),
        Method(
            "messi",
            "several subspaces of equal dimension (projective clustering)",
            fit="lpcompress.factor.methods.messi:messi",
            curve="lpcompress.factor.methods.messi:messi_curve",  # no candidate: equal ranks never beat adaptive
            demo_p=2.0,
        ),
        Method(
            "svd",
            "one subspace, least squares: the baseline",
            fit="lpcompress.factor.methods.svd:svd",  # no candidate: equals lp with p = 2
            curve="lpcompress.factor.methods.svd:low_rank_curve",
            honours_p=False,
            one_subspace=True,
            demo_p=2.0,
        ),
        Method(
            "sketch",
            "random sketches of linear layers and convolutions, unusable until trained",
            layer_fit="lpcompress.compression.sketch_start:fit_layer",
            honours_p=False,
            one_subspace=True,
            needs_training=True,
        ),
    )
}


def candidates(under_size: bool = False) -> tuple[str, ...]:
    """Return the methods that `auto` tries, in the order it tries them.

    Parameters
    ----------
    under_size : bool, default=False
        Whether layers share a whole-model size.

    Examples
    --------
    >>> candidates()
    ('sparse', 'adaptive', 'lp')
    """
    return tuple(name for name, row in METHODS.items() if (row.candidate_under_size if under_size else row.candidate))


def resolve(home: str) -> Any:
    """Import and return the object at a location such as "package.module:name".

    Parameters
    ----------
    home : str

    Examples
    --------
    >>> resolve("math:sqrt")(9)
    3.0
    """
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)
