"""Building a module from sizes or from a factorization, and reading its sizes back."""

from typing import Any, get_args

from torch import Tensor, nn

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.factor.factorization import Factorization
from lpcompress.nn.clustered import ClusteredEmbedding
from lpcompress.nn.embedding import FactoredEmbedding
from lpcompress.nn.linear import FactoredLinear
from lpcompress.nn.sizes import Spec
from lpcompress.nn.sketch import SketchedConv1d, SketchedConv2d, SketchedLinear
from lpcompress.nn.sparse import SparseCodedEmbedding

CompressedModule = (
    FactoredEmbedding
    | ClusteredEmbedding
    | SparseCodedEmbedding
    | FactoredLinear
    | SketchedLinear
    | SketchedConv1d
    | SketchedConv2d
)
MODULES: dict[str, type[CompressedModule]] = {module.kind: module for module in get_args(CompressedModule)}


def is_compressed_module(module: nn.Module) -> bool:
    """Tell whether `module` is one of ours."""
    return isinstance(module, tuple(MODULES.values()))


def spec_of(module: CompressedModule) -> Spec:
    """Return the sizes of `module`, fit for JSON: kind, shape, and what its kind needs."""
    return module.spec()


def build(spec: Spec, like: nn.Module) -> Any:
    """Build the empty module that `spec` describes, in the place of `like`.

    Parameters
    ----------
    spec : dict
        As `spec_of` returned it; keys that the kind does not know (method, p) are ignored. It may come from
        anybody's `config.json`, so every size is checked.
    like : nn.Module
        The plain layer; the new module has its device (`meta` too), dtype and mode.

    Returns
    -------
    CompressedModule
    """
    kind = spec.get("kind") if isinstance(spec, dict) else None
    cls = MODULES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise CheckpointError(f"'kind' must be one of {', '.join(MODULES)}. Got {kind!r}.")
    if not isinstance(like, cls.replaces):
        raise CheckpointError(f"{kind!r} must replace {cls.replaces.__name__}. Got {type(like).__name__}.")
    cls.refuse(like)
    return cls.from_spec(spec, like).train(like.training)  # type: ignore[arg-type]


def from_factorization(factorization: Factorization, like: nn.Module, padding_row: Tensor | None = None) -> Any:
    """Build the module that holds `factorization` in the place of `like`.

    Parameters
    ----------
    factorization : Factorization
        Of the matrix `like.weight`, (n, d).
    like : nn.Module
        The plain layer; the new module has its device, dtype, bias and mode.
    padding_row : Tensor of shape (d,), optional
        What stands at `like.padding_idx`; by default what `like` has there.

    Returns
    -------
    CompressedModule
    """
    for cls in MODULES.values():
        if isinstance(factorization, cls.holds) and isinstance(like, cls.replaces):
            spec = {
                "kind": cls.kind,
                **cls.spec_for(factorization),  # type: ignore[arg-type]
                "padding_idx": getattr(like, "padding_idx", None),
            }
            module = build(spec, like)
            module.fill(factorization, like, padding_row)
            return module
    raise LpCompressError(f"no module holds a {type(factorization).__name__} in the place of {type(like).__name__}.")
