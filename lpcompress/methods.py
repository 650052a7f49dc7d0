"""The methods, one row each: everything that anybody needs to know of a method.

Functions are named as text, "module:function", and imported when they are needed, so that `--help` and the check of a
plan need no torch.

To add a method, write a file in `factor.methods` with its fit, and its curve if layers are to share a size of the model
by it, and put a row here.
"""

import importlib
from dataclasses import dataclass
from typing import Any

AUTO = "auto"
"""Not a method but a choice: fits several candidates and keeps the one with the least error."""

DEFAULT_RATIO = 0.28
"""Share of stored bytes removed where no size is given: that of the paper on robust low-rank approximation."""


@dataclass(frozen=True)
class Method:
    """What a method is for and where its functions are.

    Attributes
    ----------
    name : str
    help : str
        What it does, in a line.
    fit : str
        Home of the function that fits a matrix: (matrix, budget, settings, whitener) -> Factorization. Empty for a
        method with a `layer_fit`.
    layer_fit : str
        Home of the function that fits a layer, for a method that must know more of it than its matrix.
    curve : str
        Home of the function that returns its error at many sizes: (matrix, budget, settings, whitener) -> Curve. Empty
        if layers cannot share a size of the model by it.
    candidate : bool
        Whether `auto` tries it.
    candidate_under_size : bool
        Whether `auto` tries it where layers share a size of the model.
    honours_p : bool
        Whether p changes its fit; else it is fitted in the l_2 norm.
    one_subspace : bool
        Whether it has a single subspace, so that a number of clusters makes no sense.
    needs_training : bool
        Whether what it makes is unusable until trained.
    demo_p : float or None
        The norm in which `lpcompress demo` shows it; None: not shown.
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
    needs_training: bool = False
    demo_p: float | None = None


METHODS = {
    method.name: method
    for method in (
        Method(
            "sparse",
            "a number for the largest coordinates of each row, 1 to 8 bits for the others",
            fit="lpcompress.factor.methods.sparse:sparse",
            curve="lpcompress.factor.methods.sparse:sparse_curve",
            candidate=True,
            candidate_under_size=True,
            demo_p=2.0,
        ),
        Method(
            "adaptive",
            "several subspaces whose dimensions differ; rows that matter get more",
            fit="lpcompress.factor.methods.adaptive:adaptive",
            curve="lpcompress.factor.methods.adaptive:adaptive_curve",
            candidate=True,  # not under a size of the model: it would be fitted at every size, and loses to sparse
            demo_p=2.0,
        ),
        Method(
            "lp",
            "one subspace, entrywise l_p error; p = 1 is robust to outliers",
            fit="lpcompress.factor.methods.lp:lp",
            curve="lpcompress.factor.methods.svd:low_rank_curve",  # the loss in other norms goes with that in l_2
            candidate=True,
            candidate_under_size=True,
            one_subspace=True,
            demo_p=1.0,
        ),
        Method(
            "messi",
            "several subspaces of one dimension (projective clustering)",
            fit="lpcompress.factor.methods.messi:messi",
            curve="lpcompress.factor.methods.messi:messi_curve",  # no candidate: adaptive's equal ranks never won
            demo_p=2.0,
        ),
        Method(
            "svd",
            "one subspace, least squares: the baseline",
            fit="lpcompress.factor.methods.svd:svd",  # no candidate: it is lp with p = 2
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
    """Return the methods that `auto` tries, in this order.

    Parameters
    ----------
    under_size : bool, default=False
        Whether layers share a size of the model.

    Examples
    --------
    >>> candidates()
    ('sparse', 'adaptive', 'lp')
    """
    return tuple(name for name, row in METHODS.items() if (row.candidate_under_size if under_size else row.candidate))


def resolve(home: str) -> Any:
    """Import and return what a home such as "package.module:name" names.

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
