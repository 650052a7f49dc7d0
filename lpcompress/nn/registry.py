"""The classes of every stored form in every role; building modules from specs and factorizations."""

from functools import cache
from typing import Any

from torch import nn

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.formats import FORMATS
from lpcompress.formats.base import Factorization
from lpcompress.formats.module import FactoredMatrix
from lpcompress.formats.sizes import Spec
from lpcompress.nn.convolution import CompressedConvolution
from lpcompress.nn.einsum import CompressedBareWeight
from lpcompress.nn.embedding import CompressedEmbedding
from lpcompress.nn.linear import CompressedLinear
from lpcompress.nn.pairs import PAIRS
from lpcompress.nn.residence import wanted

ROLES: tuple[type[FactoredMatrix], ...] = (
    CompressedEmbedding,
    CompressedLinear,
    CompressedConvolution,
    CompressedBareWeight,
)
"""The roles: what a plain layer does with its matrix."""

PUBLIC = "lpcompress.nn"  # `__module__` of derived classes in pickles; its `__getattr__` finds them


def modules() -> dict[str, type[FactoredMatrix]]:
    """Return the class of every form in every role, by its `kind` in `config.json`.

    Examples
    --------
    >>> modules()["sparse_conv"]
    <class 'lpcompress.nn.SparseCodedConvolution'>
    >>> "sketched" in modules()  # an embedding is never sketched
    False
    """
    return {
        module.kind: module
        for role in ROLES
        for name, form in FORMATS.items()
        if form.looks_rows_up or not role.needs_rows
        for module in modules_of(name, form, role)  # type: ignore[arg-type]  # mypy does not know that classes are hashable
    }


@cache
def modules_of(name: str, form: type[FactoredMatrix], role: type[FactoredMatrix]) -> tuple[type[FactoredMatrix], ...]:
    """Return the classes of one form in one role: those in `pairs`, else one derived from both.

    Parameters
    ----------
    name : str
        Key of the form in `FORMATS`.
    form, role : type of FactoredMatrix
    """
    written = tuple(module for module in PAIRS if issubclass(module, form) and issubclass(module, role))
    return written or (derive(name, form, role),)


def derive(name: str, form: type[FactoredMatrix], role: type[FactoredMatrix]) -> type[FactoredMatrix]:
    """Derive the class of a form in a role; the parameters are those of `modules_of`."""
    called = form.prefix + role.__name__.removeprefix("Compressed")
    first_line, how = (str(each.__doc__).partition("\n")[0] for each in (role, form))
    return type(
        called,
        (form, role),
        {
            "kind": name + role.suffix,
            "__module__": PUBLIC,
            "__qualname__": called,
            "__doc__": f"{first_line}\n\n{how} See `{role.__name__}` and `{form.__name__}`.",
        },
    )


def is_compressed_module(module: nn.Module) -> bool:
    """Return whether `module` is a compressed layer of this package.

    Examples
    --------
    >>> is_compressed_module(nn.Linear(3, 2))
    False
    """
    return isinstance(module, FactoredMatrix)


def role_of(layer: nn.Module) -> type[FactoredMatrix] | None:
    """Return the role of a layer, plain or compressed; None if a layer of its type cannot be factored.

    Examples
    --------
    >>> role_of(nn.Linear(3, 2)).noun
    'linear layer'
    >>> role_of(nn.LayerNorm(3)) is None
    True
    """
    return next((role for role in ROLES if isinstance(layer, (role, *role.replaces))), None)


def noun_of(word: str) -> str:
    """Return the noun for a layer of the role `word`, for messages; other words are returned unchanged.

    Examples
    --------
    >>> noun_of("conv")
    'convolution'
    """
    return next((role.noun for role in ROLES if role.word == word), word)


def spec_of(module: FactoredMatrix) -> Spec:
    """Return the kind and the sizes of `module`, from which `build` builds an empty copy; JSON-serializable.

    Examples
    --------
    >>> spec_of(build({"kind": "low_rank_linear", "shape": [6, 4], "rank": 2, "p": 1.0}, like=nn.Linear(4, 6)))
    {'kind': 'low_rank_linear', 'shape': [6, 4], 'rank': 2}
    """
    return module.spec()


def build(spec: Spec, like: nn.Module) -> Any:
    """Build the replacement of a plain layer that a spec describes, with all numbers zero.

    Parameters
    ----------
    spec : dict
        As returned by `spec_of`. Keys that the kind does not use (method, p) are ignored. Every size is checked,
        because the spec may come from an untrusted `config.json`.
    like : nn.Module
        The plain layer. The new module has its device (also `meta`), dtype, training mode and `requires_grad`.

    Returns
    -------
    FactoredMatrix

    Raises
    ------
    CheckpointError
        If the spec is invalid, or does not describe a replacement of `like`.
    LpCompressError
        If `like` does more than multiply by its matrix.

    Examples
    --------
    >>> module = build({"kind": "low_rank_linear", "shape": [6, 4], "rank": 2}, like=nn.Linear(4, 6))
    >>> module
    FactoredLinear(kind=low_rank_linear, shape=[6, 4], rank=2)
    >>> [(name, tuple(parameter.shape)) for name, parameter in module.named_parameters()]
    [('codes', (6, 2)), ('basis', (2, 4)), ('bias', (6,))]
    """
    known = modules()
    kind = spec.get("kind") if isinstance(spec, dict) else None
    cls = known.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise CheckpointError(f"'kind' must be one of {', '.join(known)}. Got {kind!r}.")
    if not isinstance(like, cls.replaces):
        names = " or ".join(each.__name__ for each in cls.replaces)
        raise CheckpointError(f"{kind!r} must replace {names}. Got {type(like).__name__}.")
    cls.refuse(like)
    module: Any = cls.from_spec(spec, like).train(like.training)
    module.residence = wanted()
    plain = dict(like.named_parameters(recurse=False))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(plain.get(name, plain["weight"]).requires_grad)  # factors like the weight
    return module


def from_factorization(factorization: Factorization, like: nn.Module) -> Any:
    """Build the replacement of a plain layer that holds a factorization of its matrix.

    Parameters
    ----------
    factorization : Factorization
        Factorization of the matrix of `like`, (n, d).
    like : nn.Module
        The plain layer. The new module has its device, dtype, padding row, bias, training mode and `requires_grad`.

    Returns
    -------
    FactoredMatrix

    Raises
    ------
    LpCompressError
        If `like` has no matrix or does more than multiply by it, or if the form does not support its role.

    Examples
    --------
    >>> from lpcompress import factorize
    >>> plain = nn.Linear(64, 256)
    >>> module = from_factorization(factorize(plain.weight, "svd", ratio=0.5), like=plain)
    >>> module
    FactoredLinear(kind=low_rank_linear, shape=[256, 64], rank=25)
    >>> module.plain()
    Linear(in_features=64, out_features=256, bias=True)
    """
    for cls in modules().values():
        if isinstance(factorization, cls.holds) and isinstance(like, cls.replaces):
            spec = {"kind": cls.kind, "shape": list(factorization.shape), **cls.sizes_of(factorization)}
            module = build(spec | cls.spec_beside(like), like)
            module.fill(factorization, like)
            return module
    raise LpCompressError(f"no module holds a {type(factorization).__name__} in place of {type(like).__name__}.")
