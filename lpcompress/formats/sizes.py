"""Read the sizes of a module from an untrusted `config.json`."""

from typing import Any

from lpcompress.errors import CheckpointError

Spec = dict[str, Any]  # kind and sizes, JSON-serializable
LARGEST = 2**40  # far above the sizes of real layers


def size(value: Any, key: str, least: int = 0) -> int:
    """Return `value` if it is an integer from `least` to `LARGEST`, else raise CheckpointError."""
    if type(value) is not int or not least <= value <= LARGEST:
        raise CheckpointError(f"{key!r} must be an integer of at least {least}. Got {value!r}.")
    return value


def positive_int(spec: Spec, key: str) -> int:
    """Return the size `spec[key]`, at least 1."""
    return size(spec.get(key), key, least=1)


def one_of(spec: Spec, key: str, allowed: tuple[int, ...]) -> int:
    """Return the size `spec[key]`, which must be one of `allowed`."""
    value = spec.get(key)
    if type(value) is not int or value not in allowed:
        raise CheckpointError(f"{key!r} must be one of {', '.join(map(str, allowed))}. Got {value!r}.")
    return value


def sizes(spec: Spec, key: str) -> list[int]:
    """Return the list of sizes `spec[key]`."""
    values = spec.get(key)
    if not isinstance(values, list) or not values:
        raise CheckpointError(f"{key!r} must be a list of integers. Got {values!r}.")
    return [size(value, key) for value in values]


def read_shape(spec: Spec, expected: tuple[int, int]) -> tuple[int, int]:
    """Return the shape in `spec`, which must equal that of the layer to replace."""
    if tuple(sizes(spec, "shape")) != expected:
        raise CheckpointError(
            f"'shape' must be that of the model's layer, {list(expected)}. Got {spec['shape']}: config.json"
            " describes another model (was its vocab_size edited?)."
        )
    return expected
