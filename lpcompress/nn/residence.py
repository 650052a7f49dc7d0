"""Resident forms: what a compressed layer is in memory once it is loaded, whatever it is on disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from lpcompress.errors import LpCompressError

VARIABLE = "LPCOMPRESS_RESIDENT"
DEFAULT = "auto"

STORED, DENSE, INT8, FASTER = "stored", "dense", "int8", "faster"
"""Ways to compute: from what is stored, decoded only; by the matrix multiplied out, kept in memory; by that matrix
rounded to one byte an entry; and the faster of the first two."""


@dataclass(frozen=True)
class Residence:
    """How layers compute in one resident form.

    Attributes
    ----------
    look_ups : str
        How embeddings do, unless a head multiplies by them.
    products : str
        How all other layers do.
    """

    look_ups: str
    products: str


RESIDENCES = {
    "auto": Residence(STORED, FASTER),
    "codes": Residence(STORED, STORED),
    "dense": Residence(DENSE, DENSE),
    "int8": Residence(STORED, INT8),
}
"""The resident forms, by the names that users give."""

_chosen: ContextVar[str | None] = ContextVar("resident", default=None)
_keeps_decoded: ContextVar[bool] = ContextVar("keeps_decoded", default=False)


def wanted() -> str:
    """Return the resident form of layers that are built now: that of `residing`, else `LPCOMPRESS_RESIDENT`, else auto.

    Raises
    ------
    LpCompressError
        If there is no resident form of that name.

    Examples
    --------
    >>> with residing("dense"):
    ...     wanted()
    'dense'
    """
    chosen = _chosen.get()
    return known(os.environ.get(VARIABLE) or DEFAULT, VARIABLE) if chosen is None else chosen


@contextmanager
def residing(name: str | None) -> Iterator[None]:
    """Make `name` the resident form of layers that are built while the block runs; None changes nothing.

    Raises
    ------
    LpCompressError
        If there is no resident form of that name.
    """
    token = _chosen.set(_chosen.get() if name is None else known(name, "resident"))
    try:
        yield
    finally:
        _chosen.reset(token)


def keeps_decoded() -> bool:
    """Return whether an embedding kept on disk keeps what its check decoded: if `keeping_decoded` was around it."""
    return _keeps_decoded.get()


@contextmanager
def keeping_decoded() -> Iterator[None]:
    """Let embeddings loaded while the block runs keep what their check decodes, though they stay on disk."""
    token = _keeps_decoded.set(True)
    try:
        yield
    finally:
        _keeps_decoded.reset(token)


def known(name: str, origin: str) -> str:
    """Return `name`, which `origin` gave, if it is one of `RESIDENCES`; else raise LpCompressError."""
    if name not in RESIDENCES:
        raise LpCompressError(f"{origin} must be one of {', '.join(RESIDENCES)}. Got {name!r}.")
    return name
