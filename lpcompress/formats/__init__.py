"""Stored forms of a matrix: one file per form, with its container and its module.

To add a form, write such a file and add a row to `FORMATS`. The container is a `Factorization`, the result of a fit.
The module is a `FactoredMatrix`, which multiplies by the matrix. `lpcompress.nn` then derives the form's classes, one
per role, and checkpoints can store it. To support p < 2, also register the form with `factor.robust.refit`.
"""

from lpcompress.formats.clustered import ClusteredMatrix
from lpcompress.formats.coded import CodedMatrix
from lpcompress.formats.low_rank import LowRankMatrix
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sketched import SketchedMatrix
from lpcompress.formats.sparse import SparseCodedMatrix

FORMATS: dict[str, type[FactoredMatrix]] = {
    "low_rank": LowRankMatrix,
    "clustered": ClusteredMatrix,
    "sparse": SparseCodedMatrix,
    "sketched": SketchedMatrix,
    "coded": CodedMatrix,
}
"""The stored forms by name. A layer's `kind` in `config.json` starts with this name, so it must never change."""
