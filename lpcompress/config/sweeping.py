"""The points of a sweep: every method at every size, as plans."""

from collections.abc import Sequence

from lpcompress.config.plan import Plan, plans_for
from lpcompress.errors import PlanError
from lpcompress.methods import CODED

RATIOS = (0.5, 0.8, 0.9, 0.95, 0.975)  # without a wish, for the word embedding alone
SIZES = (0.5, 0.2, 0.1, 0.07)  # and for other layers
EXPONENT = 0.5  # of token frequency, at all points: errors with different row weights could not be compared


def plans_of_sweep(
    plan: Plan | None, methods: Sequence[str], ratios: Sequence[float | str], sizes: Sequence[float | str]
) -> dict[str, Plan]:
    """Return a plan for each method and size, by name, method after method.

    Parameters
    ----------
    plan : Plan or None
        What all points share.
    methods : sequence of str
        By default `coded`.
    ratios, sizes : sequence of str or float
        Values of `ratio`, or of `target_size`; by default `RATIOS` for the word embedding alone, else `SIZES`.

    Raises
    ------
    PlanError
        If a value is invalid, or both ratios and sizes are given.

    Examples
    --------
    >>> list(plans_of_sweep(None, ["coded", "svd"], [0.9], []))
    ['coded, ratio 0.9', 'svd, ratio 0.9']
    >>> [each.target_size for each in plans_of_sweep(Plan(layers="all"), [], [], []).values()]
    [0.5, 0.2, 0.1, 0.07]
    """
    if ratios and sizes:
        raise PlanError("ratios and sizes must not be given together: each sets the size. Leave one out.")
    shared = Plan.of(plan, {} if plan and plan.exponent is not None else {"exponent": EXPONENT})
    if not (ratios or sizes):
        ratios, sizes = ((), SIZES) if shared.layers != Plan().layers else (RATIOS, ())
    key, values = ("target_size", sizes) if sizes else ("ratio", ratios)
    found = {
        f"{method}, {key.replace('_', ' ')} {getattr(each, key):g}": each
        for value in values
        for method, each in plans_for(methods or (CODED,), Plan.of(shared, {key: value})).items()
    }
    order = [each.method for each in found.values()]
    return dict(sorted(found.items(), key=lambda item: order.index(item[1].method)))
