"""Building a module from sizes or from a factorization, and reading its sizes back."""

from typing import Any

from torch import nn

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.formats.base import Factorization
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sizes import Spec
from lpcompress.nn.convolution import (
    ClusteredConvolution,
    CompressedConvolution,
    FactoredConvolution,
    SketchedConv1d,
    SketchedConv2d,
    SparseCodedConvolution,
)
from lpcompress.nn.einsum import (
    ClusteredBareWeight,
    CompressedBareWeight,
    FactoredBareWeight,
    SketchedBareWeight,
    SparseCodedBareWeight,
)
from lpcompress.nn.embedding import ClusteredEmbedding, CompressedEmbedding, FactoredEmbedding, SparseCodedEmbedding
from lpcompress.nn.linear import ClusteredLinear, CompressedLinear, FactoredLinear, SketchedLinear, SparseCodedLinear

ROLES: tuple[type[FactoredMatrix], ...] = (
    CompressedEmbedding,
    CompressedLinear,
    CompressedConvolution,
    CompressedBareWeight,
)
MODULES: dict[str, type[FactoredMatrix]] = {
    module.kind: module
    for module in (
        FactoredEmbedding,
        ClusteredEmbedding,
        SparseCodedEmbedding,
        FactoredLinear,
        ClusteredLinear,
        SparseCodedLinear,
        SketchedLinear,
        FactoredConvolution,
        ClusteredConvolution,
        SparseCodedConvolution,
        SketchedConv1d,
        SketchedConv2d,
        FactoredBareWeight,
        ClusteredBareWeight,
        SparseCodedBareWeight,
        SketchedBareWeight,
    )
}


def is_compressed_module(module: nn.Module) -> bool:
    """Tell whether `module` is one of ours."""
    return isinstance(module, FactoredMatrix)


def role_of(layer: nn.Module) -> type[FactoredMatrix] | None:
    """Return the role of a layer, plain or compressed; None if its kind cannot be factored."""
    return next((role for role in ROLES if isinstance(layer, (role, *role.replaces))), None)


def spec_of(module: FactoredMatrix) -> Spec:
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
        The plain layer; the new module has its device (`meta` too), dtype and mode, and is trained where it is.

    Returns
    -------
    FactoredMatrix
    """
    kind = spec.get("kind") if isinstance(spec, dict) else None
    cls = MODULES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise CheckpointError(f"'kind' must be one of {', '.join(MODULES)}. Got {kind!r}.")
    if not isinstance(like, cls.replaces):
        names = " or ".join(each.__name__ for each in cls.replaces)
        raise CheckpointError(f"{kind!r} must replace {names}. Got {type(like).__name__}.")
    cls.refuse(like)
    module: Any = cls.from_spec(spec, like).train(like.training)
    plain = dict(like.named_parameters(recurse=False))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(plain.get(name, plain["weight"]).requires_grad)
    return module


def from_factorization(factorization: Factorization, like: nn.Module) -> Any:
    """Build the module that holds `factorization` in the place of `like`.

    Parameters
    ----------
    factorization : Factorization
        Of the matrix of `like`, (n, d).
    like : nn.Module
        The plain layer; the new module has its device, dtype, padding row, bias and mode.

    Returns
    -------
    FactoredMatrix
    """
    for cls in MODULES.values():
        if isinstance(factorization, cls.holds) and isinstance(like, cls.replaces):
            spec = {"kind": cls.kind, "shape": list(factorization.shape), **cls.sizes_of(factorization)}
            module = build(spec | {"padding_idx": getattr(like, "padding_idx", None)}, like)
            module.fill(factorization, like)
            return module
    raise LpCompressError(f"no module holds a {type(factorization).__name__} in the place of {type(like).__name__}.")
