"""Compare weight files with the digests that they carry, so that damage is an error instead of other numbers."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lpcompress.checkpoints.digests import KEY, REMEDY, Table, of_layers, of_places, of_tensor, places_in
from lpcompress.checkpoints.indexes import read_index
from lpcompress.errors import CheckpointError
from lpcompress.presentation import short_list

SWITCH = "LPCOMPRESS_VERIFY"
"""Environment variable that switches the check on loading off if it is "0"."""

CHANGED = "is damaged or was changed"
THREADS = min(4, max(1, (os.cpu_count() or 1) // 2))  # beside the loader's own; more would wait for memory


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

    def digests(self) -> dict[str, str]:
        """Return the digests of all tensors: those that the files carry, or new ones if they carry none."""
        table = self.table()
        if table:
            return dict(sorted(table.nearest(self._places).items()))
        return {name: of_tensor(self._contents[file].get_tensor(name)) for name, file in sorted(self._places.items())}

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
        places = {file: places_in(file, content) for file, content in self._contents.items()}

        def differing(share: list[str]) -> list[str]:
            found: list[tuple[str, str]] = []
            for file, group in groupby(share, self._places.__getitem__):
                names = list(group)
                found += zip(names, of_places(file, [places[file][name] for name in names]), strict=True)
            return [name for name, digest in found if digest != expected[name]]

        pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="lpcompress")
        found = [pool.submit(differing, names[start::THREADS]) for start in range(THREADS)]
        pool.shutdown(wait=False)  # the threads end with their work
        return (Damage(self._places[name].name, CHANGED, name) for part in found for name in part.result())

    def _misplaced_by(self, index: Path) -> Iterator[Damage]:
        """Yield the tensors that are not where the index of a sharded checkpoint says."""
        try:
            listed = read_index(index)
        except CheckpointError:
            yield Damage(index.name, "is damaged")
            return
        if set(listed.values()) & {file.name for file in self.files}:  # else the index of another variant
            for name in sorted(listed.keys() | self._places.keys()):
                if name not in self._places or listed.get(name) != self._places[name].name:
                    yield Damage(index.name, "is not where this index says", name)


def _opened(file: Path) -> Any:
    """Return an open weight file; raise CheckpointError if it is not one."""
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(f"{file} must be a safetensors file. It is damaged: {error}. {REMEDY}") from None
