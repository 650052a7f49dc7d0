"""Layers whose weight the model's own code changes whenever it runs, as that of RWKV does: they must stay plain."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

MARK = "is_written_to"  # attribute of a module


@contextmanager
def noticing_writes(model: nn.Module) -> Iterator[None]:
    """Mark every module a parameter of which is changed in place while the block runs.

    Parameters that are kept on disk are noticed too: then it is the empty ones that are changed, to no effect.
    """
    before = [(module, each, each._version) for module in model.modules() for each in module.parameters(recurse=False)]
    yield
    for module, parameter, version in before:
        if parameter._version != version:
            setattr(module, MARK, True)


def is_written_to(module: nn.Module) -> bool:
    """Return whether `noticing_writes` has marked a module."""
    return getattr(module, MARK, False)
