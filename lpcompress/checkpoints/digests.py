"""Digests of tensors, so that a damaged checkpoint is refused instead of computing other numbers.

Every weight file of a compressed checkpoint carries a table in its metadata: tensor -> digest of its dtype, shape and
bytes, for the tensors of all files, and one digest of the layer map in `config.json`. transformers writes it with
`save_pretrained`, so it is also in checkpoints that a user or Trainer saves later. Digests find damage, not forgery:
they have no key. `docs/signing.md` shows how to sign a checkpoint.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from xxhash import xxh3_64

from lpcompress.errors import CheckpointError
from lpcompress.presentation import short_list

KEY = "lpcompress.xxh3-64"
"""Key in the metadata of a weight file; another algorithm would be another key."""

SWITCH = "LPCOMPRESS_VERIFY"
"""Environment variable that switches the check on loading off if it is "0"."""

REMEDY = "Copy the checkpoint again, or compress the model again."
CHANGED = "is damaged or was changed"
THREADS = min(4, max(1, (os.cpu_count() or 1) // 2))  # beside the loader's own; more would wait for memory
LENGTH = 8  # bytes of the number that begins a safetensors file: the length of its header


@dataclass(frozen=True)
class Damage:
    """What is wrong with a file: one tensor, or all of it.

    Attributes
    ----------
    file : str
        Name of the file in the checkpoint.
    problem : str
        A predicate: "is missing".
    tensor : str or None
        Name of the tensor; None if the file as a whole is wrong.
    """

    file: str
    problem: str
    tensor: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {f'tensor {self.tensor} ' * bool(self.tensor)}{self.problem}"


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
    digest = xxh3_64(f"{tensor.dtype} {list(tensor.shape)}".encode())
    digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return str(digest.hexdigest())


def of_layers(layers: Mapping[str, Any]) -> str:
    """Return the digest of a layer map, which does not depend on the order of its keys."""
    return str(xxh3_64(_canonical(layers).encode()).hexdigest())


def metadata(model: Any, state: Mapping[str, Tensor], layers: Mapping[str, Any]) -> dict[str, str]:
    """Return what `save_pretrained` has to write into the metadata of each weight file.

    Parameters
    ----------
    model : PreTrainedModel
    state : mapping of str to Tensor
        The tensors that are saved, some of them perhaps on disk.
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
    known: dict[int, str] = {}  # a tensor that has two names is read once

    def digest(tensor: Tensor) -> str:
        if id(tensor) not in known:
            known[id(tensor)] = of_tensor(_stored(model, origins[id(tensor)]) if tensor.is_meta else tensor)
        return known[id(tensor)]

    tables = [{name: digest(names[name]) for name in sorted(names)} for names in sets]
    return {KEY: Table(of_layers(layers), tables).text()}


def wanted() -> bool:
    """Return whether checkpoints are checked while they load."""
    return os.environ.get(SWITCH) != "0"


class Check:
    """The comparison of a checkpoint with its digests, which goes on in threads while the checkpoint loads.

    The files themselves are read, so what the loader does with the tensors (another dtype, offloading) does not matter.

    Parameters
    ----------
    files : sequence of str or Path
        All weight files of the checkpoint.
    layers : mapping
        The layer map in its `config.json`.

    Attributes
    ----------
    possible : bool
        Whether the files carry digests; those that earlier versions wrote do not.

    Raises
    ------
    CheckpointError
        If names or layers differ. Numbers that differ are reported by `finish`.
    """

    def __init__(self, files: Sequence[str | Path], layers: Mapping[str, Any]) -> None:
        weights = Weights([Path(file) for file in files if str(file).endswith(".safetensors")])
        table = weights.table()
        self._changed: Iterator[Damage] = iter(())
        self.possible = table is not None
        if table is None:
            return
        self._directory = weights.files[0].parent
        self._refuse(weights.misplaced(table))
        if of_layers(layers) != table.layers:
            self._refuse([Damage("config.json", "the layers of quantization_config are damaged or were changed")])
        self._changed = weights.changed(table)

    def finish(self) -> None:
        """Wait for the threads; raise CheckpointError if a tensor differs."""
        self._refuse(self._changed)

    def _refuse(self, damages: Iterable[Damage]) -> None:
        for damage in damages:
            raise CheckpointError(
                f"{self._directory / str(damage)}. {REMEDY} If you changed it yourself, set {SWITCH}=0 to load it, then"
                " save it again."
            )


class Weights:
    """The open weight files of a checkpoint.

    Parameters
    ----------
    files : sequence of Path

    Raises
    ------
    CheckpointError
        If one cannot be read.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self._contents = {file: _opened(file) for file in files}
        self._names = {file: content.keys() for file, content in self._contents.items()}
        self._places = {name: file for file, names in self._names.items() for name in names}

    def table(self) -> Table | None:
        """Return the table that the files carry; None if they carry none.

        Raises
        ------
        CheckpointError
            If a table is damaged, or if the tables differ.
        """
        texts = {file: (content.metadata() or {}).get(KEY) for file, content in self._contents.items()}
        texts = {file: text for file, text in texts.items() if text is not None}
        if len(set(texts.values())) > 1:
            raise CheckpointError(
                f"{short_list(list(texts))} must belong to one checkpoint. Their digests differ: they were saved at"
                f" different times, or are damaged. {REMEDY}"
            )
        return next((Table.from_text(text, file) for file, text in texts.items() if text), None)

    def misplaced(self, table: Table) -> Iterator[Damage]:
        """Yield the tensors that are missing, that do not belong there, or that the index seeks elsewhere."""
        expected, where = table.nearest(self._places), short_list([file.name for file in self.files])
        for file, names in self._names.items():
            for name in names:
                if name not in expected:
                    yield Damage(file.name, "does not belong there", name)
                elif file != self._places[name]:
                    yield Damage(file.name, f"is in {self._places[name].name} too", name)
        yield from (Damage(where, "is missing", name) for name in expected if name not in self._places)
        for index in self.files[0].parent.glob("*.safetensors.index.json") if self.files else ():
            yield from self._misplaced_by(index)

    def changed(self, table: Table) -> Iterator[Damage]:
        """Start to compare tensors in threads; return an iterator that waits for those that differ.

        The threads run beside Python's own: xxhash releases the interpreter's lock.
        """
        expected = table.nearest(self._places)
        names = [name for name in self._places if name in expected]

        def differing(share: list[str]) -> list[str]:
            tensors = ((name, self._contents[self._places[name]].get_tensor(name)) for name in share)
            return [name for name, tensor in tensors if of_tensor(tensor) != expected[name]]

        pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="lpcompress")
        found = [pool.submit(differing, names[start::THREADS]) for start in range(THREADS)]
        pool.shutdown(wait=False)  # the threads end with their work
        return (Damage(self._places[name].name, CHANGED, name) for part in found for name in part.result())

    def _misplaced_by(self, index: Path) -> Iterator[Damage]:
        """Yield the tensors that are not where the index of a sharded checkpoint says."""
        try:
            listed = dict(json.loads(index.read_bytes())["weight_map"])
        except (ValueError, TypeError, KeyError, RecursionError):
            yield Damage(index.name, "is damaged")
            return
        if set(listed.values()) & {file.name for file in self.files}:  # else the index of another variant
            for name in sorted(listed.keys() | self._places.keys()):
                if name not in self._places or listed.get(name) != self._places[name].name:
                    yield Damage(index.name, "is not where this index says", name)


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
        while block := file.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())


def sort_metadata(file: Path) -> None:
    """Put the metadata of a weight file in order, in place: safetensors writes it in an order that it draws."""
    with file.open("r+b") as content:
        length = int.from_bytes(content.read(LENGTH), "little")
        written = content.read(length)
        header = json.loads(written)
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(ordered) <= length:  # the header is padded with blanks
            content.seek(LENGTH)
            content.write(ordered.ljust(length))


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


def _opened(file: Path) -> Any:
    """Return an open weight file; raise CheckpointError if it is not one."""
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(f"{file} must be a safetensors file. It is damaged: {error}. {REMEDY}") from None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
