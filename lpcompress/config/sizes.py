"""Parse sizes in bytes such as 40MB."""

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def read_bytes(size: object) -> int:
    """Return the number of bytes in a size such as 40MB or 40000000; 0 if it is not a valid size.

    `pydantic.ByteSize` is not used: it reads "1.2.3MB" as one byte and "40mbit" as five million.

    Examples
    --------
    >>> read_bytes("40MB"), read_bytes("1.5 GiB"), read_bytes(123456), read_bytes("1.2.3MB")
    (40000000, 1610612736, 123456, 0)
    """
    found = re.fullmatch(r"([\d.]+)\s*([KMG]I?B)?", str(size).strip().upper())
    try:
        return int(float(found[1]) * UNITS[found[2] or ""]) if found else 0
    except (ValueError, OverflowError):  # two decimal points; infinity
        return 0


def _checked(value: object) -> object:
    count = None if value is None else read_bytes(value)
    if count == 0:
        raise PydanticCustomError("bytes", "no size")
    return count


_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}, {"type": "null"}]}
Bytes = Annotated[int | None, BeforeValidator(_checked), WithJsonSchema(_SCHEMA)]
"""A number of bytes, given as an integer or as text such as 40MB, or None."""
