"""Stored forms of a matrix: one file holds a form's container and its module.

To add a form, write such a file and put a row into `FORMATS`. The container is a `Factorization`, which a fit returns;
the module is a `FactoredMatrix`, which says how the matrix is multiplied. `lpcompress.nn` then has its classes for all
roles, and checkpoints can hold it. For p < 2 a form also registers `factor.robust.refit`.
"""

from lpcompress.formats.clustered import ClusteredMatrix
from lpcompress.formats.low_rank import LowRankMatrix
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sketched import SketchedMatrix
from lpcompress.formats.sparse import SparseCodedMatrix

FORMATS: dict[str, type[FactoredMatrix]] = {
    "low_rank": LowRankMatrix,
    "clustered": ClusteredMatrix,
    "sparse": SparseCodedMatrix,
    "sketched": SketchedMatrix,
}
"""The stored forms. The key begins the `kind` of a layer in `config.json`, so it can never change."""
