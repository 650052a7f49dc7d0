"""Digests of tensors, so that a damaged checkpoint can be told from a sound one.

Every weight file of a compressed checkpoint carries a table in its metadata: tensor -> digest of its dtype, shape and
bytes, for the tensors of all files, and one digest of the layer map in `config.json`. transformers writes it with
`save_pretrained`, so it is also in checkpoints that a user or Trainer saves later. Digests find damage, not forgery:
they have no key. `docs/signing.md` shows how to sign a checkpoint.
`integrity` compares files with their digests.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from xxhash import xxh3_64

from lpcompress.checkpoints.conversions import codes_of, names_in_model
from lpcompress.errors import CheckpointError

KEY = "lpcompress.xxh3-64"
"""Key in the metadata of a weight file; another algorithm would be another key."""

REMEDY = "Copy the checkpoint again, or compress the model again."
PIECE = 1 << 20  # bytes that are read at a time
LENGTH = 8  # bytes of the number that begins a safetensors file: the length of its header


@dataclass(frozen=True)
class Table:
    """The digests that a weight file carries.

    Attributes
    ----------
    layers : str
        Digest of the layer map.
    tensors : list of dict
        Tensor -> digest. Several if `save_pretrained` can write the model under several sets of names.
    """

    layers: str
    tensors: list[dict[str, str]]

    @classmethod
    def from_text(cls, text: str, file: Path) -> "Table":
        """Return the table in the metadata of `file`; raise CheckpointError if that is damaged."""
        try:
            found = json.loads(text)
            return cls(str(found["layers"]), [dict(names) for names in found["tensors"]])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise CheckpointError(f"{file} must hold digests in its metadata. They are damaged. {REMEDY}") from None

    def text(self) -> str:
        """Return the table as JSON, the same for equal tables."""
        return _canonical({"layers": self.layers, "tensors": self.tensors})

    def nearest(self, names: Mapping[str, Any]) -> dict[str, str]:
        """Return the digests under the set of names that has most in common with `names`."""
        return max(self.tensors, key=lambda each: len(each.keys() & names.keys()), default={})


def of_tensor(tensor: Tensor) -> str:
    """Return the digest of a tensor's dtype, shape and bytes.

    Examples
    --------
    >>> of_tensor(torch.zeros(2, 3)), of_tensor(torch.zeros(3, 2))
    ('a95e6243f5ca640c', '5237741f8b999277')
    """
    tensor = tensor.detach().cpu().contiguous()
    digest = _begun(tensor.dtype, tensor.shape)
    digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return str(digest.hexdigest())


@dataclass(frozen=True)
class Place:
    """Where a tensor is in a weight file, and what it is.

    Attributes
    ----------
    start, length : int
        Bytes of the file.
    dtype : torch.dtype
    shape : list of int
    """

    start: int
    length: int
    dtype: torch.dtype
    shape: list[int]


def places_in(file: Path, opened: Any) -> dict[str, Place]:
    """Return the place of each tensor in a weight file, which safetensors has `opened` as well."""
    with file.open("rb") as content:
        header, begin = header_of(content)
    header.pop("__metadata__", None)
    examples = {entry["dtype"]: name for name, entry in header.items()}
    dtypes = {word: opened.get_tensor(name).dtype for word, name in examples.items()}
    places = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        places[name] = Place(begin + start, end - start, dtypes[entry["dtype"]], entry["shape"])
    return places


def header_of(content: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header of a weight file that was just opened, and where its tensors begin."""
    length = int.from_bytes(content.read(LENGTH), "little")
    return json.loads(content.read(length)), LENGTH + length


def of_places(file: Path, places: Iterable[Place]) -> Iterator[str]:
    """Yield the digests of tensors of a file, of which a piece is read at a time.

    What is read through a mapping, as safetensors does, counts as memory of the process until the mapping is dropped.
    """
    piece = memoryview(bytearray(PIECE))  # one for all, because the system has to clear a new one
    with file.open("rb", buffering=0) as content:
        for place in places:
            digest, left = _begun(place.dtype, place.shape), place.length
            content.seek(place.start)
            while left and (count := content.readinto(piece[:left])):
                digest.update(piece[:count])
                left -= count
            yield str(digest.hexdigest())


def _begun(dtype: torch.dtype, shape: Iterable[int]) -> xxh3_64:
    return xxh3_64(f"{dtype} {list(shape)}".encode())


def of_layers(layers: Mapping[str, Any]) -> str:
    """Return the digest of a layer map, which does not depend on the order of its keys."""
    return str(xxh3_64(_canonical(layers).encode()).hexdigest())


def metadata(model: Any, state: Mapping[str, Tensor], layers: Mapping[str, Any]) -> dict[str, str]:
    """Return what `save_pretrained` has to write into the metadata of each weight file.

    Parameters
    ----------
    model : PreTrainedModel
    state : mapping of str to Tensor
        The tensors that are saved, by their names in a checkpoint, some of them perhaps on disk.
    layers : mapping
        The layer map as it is written to `config.json`.

    Returns
    -------
    dict
        Empty if the tensors in `state` are not what is written: parts of tensors that are spread over processes, or a
        model of which only the adapter is saved.
    """
    spread = any(hasattr(tensor, "full_tensor") for tensor in state.values())  # a DTensor
    spread = spread or getattr(model, "_tp_size", None) is not None  # made one while it is saved
    if spread or getattr(model, "_hf_peft_config_loaded", False):
        return {}
    sets, origins = _as_written(model, state)
    codes = names_in_model(model)
    known: dict[int, str] = {}  # a tensor that has two names is read once

    def read(tensor: Tensor) -> Tensor:
        name = origins.get(id(tensor), "")
        if name in codes:  # mapped once more: what is read of the mapping in `state` stays in memory
            return codes_of(model, codes[name])
        return _stored(model, name) if tensor.is_meta else tensor

    def digest(tensor: Tensor) -> str:
        if id(tensor) not in known:
            known[id(tensor)] = of_tensor(read(tensor))
        return known[id(tensor)]

    tables = [{name: digest(names[name]) for name in sorted(names)} for names in sets]
    return {KEY: Table(of_layers(layers), tables).text()}


def of_file(path: Path) -> str:
    """Return the digest of a file's bytes.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "vocab.txt"
    >>> _ = path.write_text("cat")
    >>> of_file(path)
    '42548a8a111c54ee'
    """
    digest = xxh3_64()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return str(digest.hexdigest())


def _as_written(model: Any, state: Mapping[str, Tensor]) -> tuple[list[dict[str, Tensor]], dict[int, str]]:
    """Return the tensors under the names that `save_pretrained` gives them, and the name in `state` by identity.

    That is one set of names, or two: a model whose names differ from those on the Hub can be saved under either.
    """
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    ignored = model._keys_to_ignore_on_save or ()
    kept = {name: tensor for name, tensor in state.items() if name not in ignored}
    kept = remove_tied_weights_from_state_dict(kept, model)
    origins = {id(tensor): name for name, tensor in kept.items()}
    renamed = revert_weight_conversion(model, kept)
    if any(tensor.is_meta and id(tensor) not in origins for tensor in renamed.values()):  # computed from others
        kept = {name: _stored(model, name) if tensor.is_meta else tensor for name, tensor in kept.items()}
        renamed = revert_weight_conversion(model, kept)
    return [renamed] if renamed.keys() == kept.keys() else [renamed, kept], origins


def _stored(model: Any, name: str) -> Tensor:
    """Return a tensor that is kept on disk."""
    from transformers.integrations.accelerate import load_offloaded_parameter

    return load_offloaded_parameter(model, name)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
