"""Export a checkpoint as a directory with an ONNX file."""

import copy
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from lpcompress.checkpoints import saving
from lpcompress.checkpoints.files import directory_of, file_bytes
from lpcompress.checkpoints.load_errors import in_one_line
from lpcompress.checkpoints.loading import load
from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.exporting import recording
from lpcompress.exporting.checking import Difference, check
from lpcompress.exporting.inputs import Inputs, inputs_for
from lpcompress.presentation import megabytes, plain_table
from lpcompress.progress import Progress, silent

FILE = "model.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Export:
    """Result of `export`.

    Attributes
    ----------
    model, out : str
    format : str
    int8 : bool
        Whether linear layers are int8 products.
    inputs, outputs : list of str
        Names in the graph.
    file_bytes_before : int
        Of the checkpoint's weights.
    file_bytes_after : int
        Of the graph with its weights.
    coded_bytes : int
        Of the entropy-coded integers in the checkpoint that stand as plain integers in the graph.
    integer_bytes : int
        Of all integer weights in the graph: ONNX has no entropy coding.
    difference : Difference
        Between ONNX Runtime and the checkpoint in torch.
    seconds : float
    """

    model: str
    out: str
    format: str
    int8: bool
    inputs: list[str]
    outputs: list[str]
    file_bytes_before: int
    file_bytes_after: int
    coded_bytes: int
    integer_bytes: int
    difference: Difference
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return the result as a dictionary with stable keys, ready for JSON."""
        return asdict(self)


def export(
    source: str | Path, out: str | Path, int8: bool = False, overwrite: bool = False, progress: Progress = silent
) -> Export:
    """Write a checkpoint as `model.onnx`, beside its config, tokenizer and other small files.

    The graph has standard operators only. Coded embeddings stay integers there, of which a runtime multiplies out the
    rows that it looks up. The integers of other coded layers are multiplied out once, when the graph is loaded.

    Parameters
    ----------
    source : str or Path
        A compressed checkpoint; a dense one is exported too.
    out : str or Path
        Directory to create.
    int8 : bool, default=False
        Make products of linear layers int8, with inputs rounded anew for each call. Outputs are then only near those
        of the checkpoint.
    overwrite : bool, default=False
        See `saving.new_checkpoint`.
    progress : Progress, optional

    Returns
    -------
    Export

    Raises
    ------
    LpCompressError
        If a package is missing, `source` cannot be loaded or recorded, `out` exists or cannot be written, or ONNX
        Runtime gives other outputs than torch. Nothing is written then.
    """
    began = time.perf_counter()
    refuse_missing_packages()
    saving.refuse_existing(out, overwrite, [source])
    progress(f"loading {source}")
    model, tokenizer = load(str(source), resident="codes")
    config, before = plain_config(model.config), _bytes_of(source)
    recording.simplify(model)
    rows = inputs_for(model, tokenizer)
    with torch.no_grad():
        expected = [dict(recording.named_outputs(model(**inputs))) for inputs in rows]
    coded = recording.prepare(model, int8)
    with saving.new_checkpoint(out, overwrite, [source]) as directory:
        progress("recording the graph")
        _record(model, rows[0], list(expected[0]), directory / FILE)
        progress("comparing ONNX Runtime with torch")
        difference = check(directory / FILE, rows, expected, int8)
        config.save_pretrained(directory)
        saving.write_companions(directory, tokenizer, str(source))
        integers = recording.integer_bytes(directory / FILE)
        after = sum(file.stat().st_size for file in directory.glob(f"{FILE}*"))
    return Export(
        model=str(source),
        out=str(out),
        format="onnx",
        int8=int8,
        inputs=list(rows[0]),
        outputs=list(expected[0]),
        file_bytes_before=before,
        file_bytes_after=after,
        coded_bytes=coded,
        integer_bytes=integers,
        difference=difference,
        seconds=time.perf_counter() - began,
    )


def refuse_missing_packages() -> None:
    """Raise LpCompressError unless the packages for ONNX are installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise LpCompressError(
            f"export to ONNX needs the packages {', '.join(PACKAGES)}. Not installed: {', '.join(missing)}. Run"
            ' pip install "lpcompress[onnx]".'
        )


def plain_config(config: Any) -> Any:
    """Return a copy of a config without what only the loader of compressed checkpoints reads; weights are float32."""
    plain = copy.deepcopy(config)
    vars(plain).pop("quantization_config", None)
    plain.dtype = torch.float32
    return plain


def _record(model: Any, inputs: Inputs, outputs: list[str], file: Path) -> None:
    try:
        recording.write(model, inputs, outputs, file)
    except OSError:
        raise
    except Exception as error:  # torch.export raises anything at all
        raise CheckpointError(
            f"torch.onnx cannot export a {type(model).__name__}: {in_one_line(error)} Nothing was written. lpcompress"
            " densify gives a plain checkpoint for other exporters."
        ) from error


def _bytes_of(source: str | Path) -> int:
    directory = directory_of(str(source))
    return file_bytes(directory) if directory else 0


def export_table(done: Export) -> Table:
    """Return the table of `lpcompress export`: sizes, and how near the outputs are."""
    table = plain_table(f"{done.out}/{FILE}", "", "size")
    rest = done.file_bytes_after - done.integer_bytes
    table.add_row("weights of the checkpoint", megabytes(done.file_bytes_before))
    table.add_row(FILE, megabytes(done.file_bytes_after))
    table.add_row("  codes as plain integers", megabytes(done.integer_bytes))
    table.add_row("  everything else", megabytes(rest))
    entropy = ""
    if done.coded_bytes:
        table.add_row("the same codes in the checkpoint", megabytes(done.coded_bytes))
        cost = megabytes(max(done.integer_bytes - done.coded_bytes, 0))
        entropy = f"ONNX has no entropy coding, which costs {cost} here\n"
    found = done.difference
    table.caption = (
        f"{entropy}ONNX Runtime against torch, {found.rows} rows: outputs differ by {found.largest:.2g} at most"
        f" ({found.moved:.2g} of their variance)"
    )
    return table
