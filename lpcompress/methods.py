"""The table of methods: one row holds everything the package knows about a method.

Functions are named as text, "module:function", and imported when they are needed, so that `--help` and checking a plan
do not import torch.

To add a method, write a file in `factor.methods` with its fit, and add a row here.
"""

import importlib
from dataclasses import dataclass
from typing import Any

AUTO = "auto"
"""Not a method of its own: fits several candidates and keeps the one with the smallest error."""

CODED = "coded"
"""The method that `auto` stands for under a whole-model size (`target_size`, `max_bytes`)."""

FORMER_NAMES = {"sparse": CODED}
"""Names that methods had, which are still taken."""

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
    candidate : bool
        Whether `auto` tries it.
    least_squares_error : str
        "module:function" that returns the relative l_p error of its least-squares fit, so that `auto` need not fit what
        is far behind: (parts of the matrix, the matrix before its rows were scaled, budget, p) -> float. May be empty.
    honours_p : bool
        Whether p changes its fit; if not, it is fitted in the l_2 norm.
    one_subspace : bool
        Whether it has a single subspace, so that more than one cluster is an error.
    weighs_rows : bool
        Whether its fit takes the row weights, as a fifth argument, because they decide more than the rows' lengths.
    one_step : bool
        Whether a whole-model size is met by one step size for the codes of all layers. For other methods it is met by
        one threshold for the singular values of all layers.
    needs_training : bool
        Whether its result is unusable until trained.
    demo_p : float or None
        Norm in which `lpcompress demo` runs it; None leaves it out.
    """

    name: str
    help: str
    fit: str = ""
    layer_fit: str = ""
    candidate: bool = False
    least_squares_error: str = ""
    honours_p: bool = True
    one_subspace: bool = False
    weighs_rows: bool = False
    one_step: bool = False
    needs_training: bool = False
    demo_p: float | None = None


METHODS = {
    method.name: method
    for method in (
        Method(
            "coded",
            "integers with one step for everything, entropy coded; smallest at equal error",
            fit="lpcompress.factor.methods.coded:coded",
            candidate=True,
            one_subspace=True,
            weighs_rows=True,
            one_step=True,
            demo_p=2.0,
        ),
        Method(
            "adaptive",
            "several subspaces of different dimensions; rows with large weights get more",
            fit="lpcompress.factor.methods.adaptive:adaptive",  # no candidate: slow, and far behind coded
            demo_p=2.0,
        ),
        Method(
            "lp",
            "one subspace, entrywise l_p error; p = 1 is robust to outliers",
            fit="lpcompress.factor.methods.lp:lp",
            candidate=True,
            least_squares_error="lpcompress.factor.low_rank:least_squares_error",
            one_subspace=True,
            demo_p=1.0,
        ),
        Method(
            "messi",
            "several subspaces of equal dimension (projective clustering)",
            fit="lpcompress.factor.methods.messi:messi",  # no candidate: equal ranks never beat adaptive
            demo_p=2.0,
        ),
        Method(
            "svd",
            "one subspace, least squares: the baseline",
            fit="lpcompress.factor.methods.svd:svd",  # no candidate: equals lp with p = 2
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


def candidates() -> tuple[str, ...]:
    """Return the methods that `auto` tries, in the order it tries them.

    Examples
    --------
    >>> candidates()
    ('coded', 'lp')
    """
    return tuple(name for name, row in METHODS.items() if row.candidate)


def current_name(name: Any) -> Any:
    """Return the name that a method has now; other values are returned as they are.

    Examples
    --------
    >>> current_name("sparse"), current_name("svd")
    ('coded', 'svd')
    """
    return FORMER_NAMES.get(name, name) if isinstance(name, str) else name


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
