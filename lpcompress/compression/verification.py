"""Compare a checkpoint directory with the digests that were written with it: in `lpcompress.json` and the weights."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from lpcompress.checkpoints.digests import REMEDY, of_file, of_layers
from lpcompress.checkpoints.digests import Table as WeightTable
from lpcompress.checkpoints.files import WEIGHTS, weight_files
from lpcompress.checkpoints.integrity import CHANGED, Damage, Weights
from lpcompress.compression.reading import read_document
from lpcompress.compression.seal import Seal, names_in, own_digest
from lpcompress.errors import CheckpointError
from lpcompress.filenames import CONFIG, REPORT_FILE
from lpcompress.presentation import plain_table


@dataclass(frozen=True)
class Verification:
    """Result of `verify`.

    Attributes
    ----------
    directory : str
    files, tensors : int
        How many were compared with a digest.
    damaged : list of Damage
        Files and tensors that are missing or differ.
    extra : list of str
        Files that were not there when the digests were written.
    """

    directory: str
    files: int
    tensors: int
    damaged: list[Damage] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether everything that has a digest agrees with it."""
        return not self.damaged

    def document(self) -> dict[str, Any]:
        """Return the result as a dictionary with stable keys, ready for JSON."""
        return {"sound": self.sound, **asdict(self)}


def verify(directory: str | Path) -> Verification:
    """Compare everything in a checkpoint directory with its digests; nothing is loaded as a model.

    Parameters
    ----------
    directory : str or Path
        A compressed checkpoint. One that was saved later by `save_pretrained` has digests of tensors and of the layer
        map only.

    Returns
    -------
    Verification

    Raises
    ------
    CheckpointError
        If it is not a directory, or has no digests.

    Examples
    --------
    >>> import tempfile, lpcompress, transformers
    >>> directory = Path(tempfile.mkdtemp())
    >>> sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 12}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes))
    >>> _ = lpcompress.compress(model, ratio=0.5)
    >>> model.save_pretrained(directory)
    >>> verify(directory).sound
    True
    >>> with (directory / "model.safetensors").open("r+b") as file:
    ...     _ = file.seek(-1, 2), file.write(b"!")
    >>> print(*verify(directory).damaged)
    model.safetensors: tensor embeddings.word_embeddings.stream is damaged or was changed
    """
    path = Path(directory).expanduser()
    if not path.is_dir():
        raise CheckpointError(f"{directory} must be a directory with a compressed checkpoint. There is none.")
    seal, damaged = _read_seal(path)
    table, weights = _weights(path, seal)
    if seal is None and table is None and not damaged and not weights:
        raise CheckpointError(
            f"{directory} must hold digests, which lpcompress writes with compressed weights. It has none: it is not"
            " compressed, or was compressed by an earlier version. Compress the model again to get them."
        )
    if table and not _layers_agree(path, table):
        weights.append(Damage(CONFIG, "has other layers in its quantization_config than the weights"))
    files, extra = _files(path, seal) if seal else ([], [])
    known = {damage.file for damage in [*damaged, *weights]}  # a tensor says more than its file
    tensors = table.tensors[0] if table and table.tensors else {}
    return Verification(
        directory=str(directory),
        files=len(seal.files) + 1 if seal else 0,
        tensors=len(tensors),
        damaged=[*damaged, *weights, *(damage for damage in files if damage.file not in known)],
        extra=extra,
    )


def verification_table(found: Verification) -> Table:
    """Return the table of what differs."""
    counts = f"{found.files:,} files and {found.tensors:,} tensors compared"
    table = plain_table(f"{found.directory}: {counts}", "file", "tensor", "finding")
    for damage in found.damaged:
        table.add_row(damage.file, damage.tensor or "", damage.problem)
    for name in found.extra:
        table.add_row(name, "", "was added later (no damage)")
    table.caption = "everything is as it was written" if found.sound else REMEDY
    return table


def _read_seal(directory: Path) -> tuple[Seal | None, list[Damage]]:
    """Return the digests in `lpcompress.json`, and what is wrong with that file."""
    path = directory / REPORT_FILE
    if not path.exists():
        return None, []
    try:
        document = read_document(directory)
        given = document["digests"] if isinstance(document, dict) else None
        seal = TypeAdapter(Seal).validate_python(given)
    except KeyError:  # written by an earlier version
        return None, []
    except (CheckpointError, ValidationError):
        return None, [Damage(REPORT_FILE, "is damaged")]
    sound = own_digest(path.read_bytes(), seal.report) == seal.report
    return seal, [] if sound else [Damage(REPORT_FILE, CHANGED)]


def _weights(directory: Path, seal: Seal | None) -> tuple[WeightTable | None, list[Damage]]:
    """Return the table of the weight files, or that of the report, and what differs from it."""
    problems = {file: _problem_of(file) for file in _named(directory) if file.suffix == ".safetensors"}
    broken = [Damage(file.name, problem) for file, problem in problems.items() if problem]
    weights = Weights([file for file, problem in problems.items() if not problem])
    try:
        table = weights.table()
    except CheckpointError:  # the tables are not the same
        mixed = [Damage(file.name, "has other digests than another weight file") for file in weights.files]
        return None, [*broken, *mixed]
    against = table or (WeightTable("", [seal.tensors]) if seal else None)
    if against is None:
        return None, broken
    misplaced = [] if broken else weights.misplaced(against)  # else it would list what the broken files hold
    return table, [*broken, *misplaced, *weights.changed(against)]


def _named(directory: Path) -> list[Path]:
    """Return the weight files that are loaded; if their index is damaged, what has the name of one."""
    try:
        return weight_files(directory)
    except CheckpointError:
        return sorted(directory.glob(WEIGHTS["model.safetensors"]))


def _problem_of(file: Path) -> str | None:
    """Return why a weight file cannot be opened, or its table of digests not be read."""
    if not file.is_file():
        return "is missing"
    try:
        Weights([file]).table()
    except CheckpointError:
        return "is damaged"
    return None


def _layers_agree(directory: Path, table: WeightTable) -> bool:
    """Return whether `config.json` has the layers that were saved with the weights."""
    try:
        config = json.loads((directory / CONFIG).read_bytes())
        return of_layers(config["quantization_config"]["layers"]) == table.layers
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _files(directory: Path, seal: Seal) -> tuple[list[Damage], list[str]]:
    """Return the files that differ or are missing, and those that were added."""
    present = set(names_in(directory))
    damaged = [
        Damage(name, CHANGED if name in present else "is missing")
        for name, digest in sorted(seal.files.items())
        if name not in present or of_file(directory / name) != digest
    ]
    return damaged, sorted(present - seal.files.keys())
