"""Report on a compressed checkpoint: `lpcompress.json`, and tables for the terminal."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, TypeAdapter, ValidationError
from rich.table import Table

from lpcompress.checkpoints.saving import Written
from lpcompress.compression.reading import WAY_OUT, complaint, read_document
from lpcompress.compression.records import CompressionReport, Count, LayerPreview, LayerRecord, Real
from lpcompress.compression.seal import Seal, with_own_digest
from lpcompress.errors import CheckpointError
from lpcompress.filenames import REPORT_FILE
from lpcompress.presentation import as_json, dimensions, megabytes, plain_table, published, short_list
from lpcompress.version import __version__

CAPTION = "error: relative, {error}; removed: share of stored bytes"
BY_ROWS = "of the matrix, with row weights applied"
OF_OUTPUTS = "of the outputs on the calibration text for calibrated layers"
CANDIDATES = "the JSON report holds the errors of all candidates that auto tried"
MAX_CHOICES = 4  # listed in full below the table
# left out where None
OPTIONAL_KEYS = ("origin", "plan", "finetuning", "glue", "tried", "left_out", "verification", "digests")


def _calibrated(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Raise ValueError unless a calibration has the keys that the model card names."""
    if found and not (isinstance(found.get("source"), str) and isinstance(found.get("texts"), int)):
        raise ValueError("must hold a text `source` and a number of `texts`")
    return found


@dataclass(frozen=True, kw_only=True)
class CheckpointReport:
    """The content of `lpcompress.json`: a `CompressionReport` plus facts about the files.

    Attributes
    ----------
    lpcompress_version : str
    model : str
        The compressed model, as the user named it; in the document, `./` and the last part of a local path.
    out : str
        Directory of the result; in the document, its name after `./`.
    seed : int
    seconds : float
    peak_rss_bytes : int
        Peak memory of the process; 0 where the system does not report it.
    parameters_before, parameters_after : int
        Stored floating-point numbers, counting tied tensors once.
    file_bytes_before, file_bytes_after : int
        Bytes of the weight files.
    bytes_in_memory : int or None
        Bytes of the model's tensors once it is loaded in the resident form `auto`; None in reports of older versions.
    layers : sequence of LayerRecord
    calibration, skipped, warnings
        See `CompressionReport`.
    origin : dict or None
        `revision` and `subfolder` of the compressed model, if they were given.
    plan : dict or None
        The options of the plan that were given; None in the reports of older versions.
    finetuning : str or None
        One sentence on the fine-tuning that followed.
    glue : dict or None
        GLUE scores before and after, as `eval_glue` returns them.
    tried : list of dict or None
        Sizes that were tried to find the smallest that passes the gates; None if a size was given.
    left_out : dict or None
        File or folder beside the compressed model's weights that was not copied -> why; None if all were.
    verification : dict or None
        Whether `outputs` were compared, and the `seconds` that loading and comparing the files took; None without the
        check.
    digests : Seal or None
        Digests of all other files of the checkpoint; None until the report is written.
    """

    lpcompress_version: str = ""
    model: str = ""
    out: str = ""
    seed: int = 0
    seconds: Real = 0.0
    peak_rss_bytes: Count = 0
    parameters_before: Count = 0
    parameters_after: Count = 0
    file_bytes_before: Count = 0
    file_bytes_after: Count = 0
    bytes_in_memory: Count | None = None
    layers: Sequence[LayerRecord] = ()
    calibration: Annotated[dict[str, Any] | None, AfterValidator(_calibrated)] = None
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    origin: dict[str, str] | None = None
    plan: dict[str, Any] | None = None
    finetuning: str | None = None
    glue: dict[str, Any] | None = None
    tried: list[dict[str, Any]] | None = None
    left_out: dict[str, str] | None = None
    verification: dict[str, Any] | None = None
    digests: Seal | None = None

    @classmethod
    def of(
        cls,
        done: CompressionReport,
        *,
        model: str,
        out: Path,
        before: int,
        after: int,
        origin: dict[str, str] | None = None,
        plan: dict[str, Any] | None = None,
        glue: Any | None = None,
        tried: list[dict[str, Any]] | None = None,
        written: Written | None = None,
    ) -> Self:
        """Return the report of a checkpoint whose weight files took `before` bytes and now take `after`."""
        return cls(
            lpcompress_version=__version__,
            model=model,
            out=str(out),
            seed=done.seed,
            seconds=round(done.seconds, 3),
            peak_rss_bytes=peak_rss_bytes(),
            parameters_before=done.parameters_before,
            parameters_after=done.parameters_after,
            file_bytes_before=before,
            file_bytes_after=after,
            bytes_in_memory=done.bytes_in_memory,
            layers=done.layers,
            calibration=done.calibration,
            skipped=done.skipped,
            warnings=done.warnings,
            origin=origin or None,
            plan=plan,
            glue=glue,
            tried=tried,
            left_out=(written and written.left_out) or None,
            verification=asdict(written.verification) if written and written.verification else None,
        )

    @classmethod
    def from_document(cls, document: Any, origin: str | Path = REPORT_FILE) -> "CheckpointReport":
        """Return the report from the output of `document`, of this or an older version; unknown keys are ignored.

        Parameters
        ----------
        document : mapping
        origin : str or Path, optional
            What to call the document in an error.

        Raises
        ------
        CheckpointError
            If a value is missing, or is not of the kind that is written there.
        """
        try:
            return _REPORT.validate_python(document)
        except ValidationError as error:
            raise CheckpointError(f"{origin}: {complaint(error)}. {WAY_OUT}") from None

    @classmethod
    def read(cls, directory: Path | None) -> "CheckpointReport | None":
        """Return the report in a checkpoint directory; None if it has none.

        Raises
        ------
        CheckpointError
            If the file is not a report.
        """
        document = read_document(directory)
        return None if directory is None or document is None else cls.from_document(document, directory / REPORT_FILE)

    def document(self) -> dict[str, Any]:
        """Return the report as a dictionary with stable keys, ready for JSON and for others: see `published`."""
        fields = published(asdict(self))
        return {key: value for key, value in fields.items() if key not in OPTIONAL_KEYS or value is not None}

    def write(self, directory: Path) -> Self:
        """Write `lpcompress.json` into a directory, with the digests of all that is there; return what was written.

        It must be the last file that is written.
        """
        text = with_own_digest(as_json(replace(self, digests=Seal.of(directory))) + "\n")
        (directory / REPORT_FILE).write_text(text, encoding="utf-8", newline="\n")
        return replace(self, digests=Seal(**json.loads(text)["digests"]))


_REPORT = TypeAdapter(CheckpointReport)


def peak_rss_bytes() -> int:
    """Return the peak resident memory of this process in bytes; 0 on Windows, which does not report it this way."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def layer_table(report: CheckpointReport) -> Table:
    """Return a table of the compressed layers, with the error of plain SVD at the same size for comparison."""
    size = f"{megabytes(report.file_bytes_before)} -> {megabytes(report.file_bytes_after)}"
    loaded = "" if report.bytes_in_memory is None else f" on disk, {megabytes(report.bytes_in_memory)} in memory"
    table = plain_table(f"{report.model}: {size}{loaded}")
    chosen = [_choice(layer) for layer in report.layers if len(layer.candidates) > 1]
    notes = [CAPTION.format(error=kinds_of_error(report.layers)), *skipped_note(report), *verification_note(report)]
    table.caption = "\n".join([*notes, *(chosen if len(chosen) <= MAX_CHOICES else [CANDIDATES])])
    for heading in ("layer", "shape", "method", "ranks"):
        table.add_column(heading, overflow="fold")
    for heading in ("on disk", "in memory", "removed", "error", "SVD error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in report.layers:
        table.add_row(
            layer.name,
            dimensions(layer.shape),
            f"{layer.method}, p={layer.p:g}",
            short_list(layer.ranks),
            *sizes_of(layer),
            f"{layer.removed:.1%}",
            *errors_of(layer),
        )
    return table


def sizes_of(layer: LayerRecord) -> tuple[str, str]:
    """Return the bytes of a layer on disk and in memory, as table cells; a dash where an older version did not say."""
    loaded = layer.bytes_in_memory
    return megabytes(layer.bytes_after), "-" if loaded is None else megabytes(loaded)


def verification_note(report: CheckpointReport) -> list[str]:
    """Return the sentence on how the files were checked, if they were."""
    if not report.verification:
        return []
    seconds = report.verification["seconds"]
    what = "tensors and outputs are" if report.verification["outputs"] else "tensors (it has no known inputs) are"
    share = seconds / (seconds + report.seconds)
    return [f"loaded again: {what} those of the model in memory ({seconds:.1f} s, {share:.0%} of the time)"]


def preview_table(layers: Sequence[LayerPreview]) -> Table:
    """Return the table of a dry run: the layers that would be compressed, and their sizes."""
    table = plain_table("layers to compress (dry run: nothing was written)")
    table.add_column("layer", overflow="fold")
    for heading in ("shape", "method", "bytes now", "max. bytes", "expected error", "SVD rank", "row weights"):
        table.add_column(heading, justify="right")
    for layer in layers:
        table.add_row(
            layer.name,
            dimensions(layer.shape),
            layer.method,
            f"{layer.bytes_before:,}",
            f"{layer.bytes_budget:,}",
            _error(layer.expected_error),
            f"{layer.svd_rank:,}",
            layer.row_weights,
        )
    return table


def errors_of(layer: LayerRecord) -> tuple[str, str]:
    """Return the error that the fit minimised, and that of plain SVD, as table cells."""
    if layer.error_calibrated is None:
        return _error(layer.error_weighted), _error(layer.svd_error_weighted)
    return _error(layer.error_calibrated), _error(layer.svd_error_calibrated)


def kinds_of_error(layers: Sequence[LayerRecord]) -> str:
    """Return a description of the errors that `errors_of` returns for these layers."""
    calibrated = [layer.error_calibrated is not None for layer in layers]
    return "; ".join([BY_ROWS] * (not all(calibrated)) + [OF_OUTPUTS] * any(calibrated))


def skipped_note(report: CheckpointReport) -> list[str]:
    """Return a line on the chosen layers that stay dense, if there are any."""
    count = len(report.skipped)
    return [f"{count:,} of the chosen layers stay dense; {REPORT_FILE} gives the reasons"] if count else []


def _error(error: float | None) -> str:
    """Return an error as a table cell; a dash if there is none, as for SVD where not even rank 1 fits."""
    return "-" if error is None else f"{error:.4f}"


def _choice(layer: LayerRecord) -> str:
    """Return the methods that `auto` tried for a layer and their errors, best first."""
    tried = sorted(layer.candidates.items(), key=lambda item: item[1])
    return f"{layer.name}: tried " + ", ".join(f"{name} {error:.4f}" for name, error in tried)
