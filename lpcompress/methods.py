"""The methods, one row each: everything that anybody needs to know of a method.

Functions are named as text, "module:function", and imported when they are needed, so that `--help` and the check of a
plan need no torch.
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
        Home of the function that fits a matrix; empty for a method that is bound to a kind of layer.
    curve : str
        Home of the function that tells its error at many sizes; empty if a size of the model cannot be shared by it.
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
            candidate=True,
            demo_p=2.0,
        ),
        Method(
            "lp",
            "one subspace, entrywise l_p error; p = 1 is robust to outliers",
            fit="lpcompress.factor.methods.lp:lp",
            curve="lpcompress.factor.methods.svd:low_rank_curve",
            candidate=True,
            candidate_under_size=True,
            one_subspace=True,
            demo_p=1.0,
        ),
        Method(
            "messi",
            "several subspaces of one dimension (projective clustering)",
            fit="lpcompress.factor.methods.messi:messi",
            curve="lpcompress.factor.methods.messi:messi_curve",
            demo_p=2.0,
        ),
        Method(
            "svd",
            "one subspace, least squares: the baseline",
            fit="lpcompress.factor.methods.svd:svd",
            curve="lpcompress.factor.methods.svd:low_rank_curve",
            honours_p=False,
            one_subspace=True,
            demo_p=2.0,
        ),
        Method(
            "sketch",
            "random sketches of linear layers and convolutions, unusable until trained",
            honours_p=False,
            one_subspace=True,
            needs_training=True,
        ),
    )
}


def resolve(home: str) -> Any:
    """Return what a home such as "package.module:name" names.

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
