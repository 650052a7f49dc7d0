"""What `lpcompress demo` says, for somebody who has read nothing else."""

from pathlib import Path

from rich.table import Table

from lpcompress.checkpoints import files
from lpcompress.evaluation.demo import BASELINE, SENTENCES, DemoRow, Point, bundled_model
from lpcompress.methods import CODED
from lpcompress.presentation import megabytes, plain_table

COLUMNS = f"""\
method     {CODED} is what `lpcompress compress` takes unless told otherwise
p          norm of the error that was made small; 1 forgives outliers, 2 is least squares
removed    share of the word embedding's bytes that is gone; everything else in the model stays as it was
on disk    what the model's weights take now
error      how far the embedding is from the original: 0 is equal, 1 is as far as all zeros
agreement  cosine of {len(SENTENCES)} sentence vectors with the original model's, mean: 1 is the same direction
worst      the same for the sentence that changed most
reload     whether a fresh process gives the same vectors from the files, to the bit
"""
NEXT = """\
Next, with a model of your own (a directory or a name on the Hub):
  lpcompress inspect MODEL                                  what is in it, and how much the word embedding takes
  lpcompress compress MODEL --ratio 0.9                     word embedding alone, 90 % removed
  lpcompress compress MODEL --layers all --target-size 0.1  the whole model at 10 % of its bytes
"""


def methods(rows: list[DemoRow], ratio: float) -> Table:
    """Return the table of methods for the terminal."""
    before = files.file_bytes(bundled_model())
    result = plain_table(f"all-MiniLM-L6-v2, {megabytes(before)}: every method, {ratio:g} of the embedding removed")
    result.add_column("method")
    for heading in ("p", "removed", "on disk", "error", "agreement", "worst", "reload", "seconds"):
        result.add_column(heading, justify="right")
    for row in rows:
        result.add_row(
            row.method,
            f"{row.p:g}",
            f"{row.removed:.1%}",
            megabytes(row.file_bytes),
            f"{row.error_fro:.4f}",
            f"{row.cosine_mean:.4f}",
            f"{row.cosine_worst:.4f}",
            "equal" if row.reloaded_equal else "DIFFERS",
            f"{row.seconds:.1f}",
        )
    return result


def sizes(points: list[Point]) -> Table:
    """Return the table of sizes for the terminal: `coded` beside `svd`."""
    result = plain_table(f"Smaller and smaller: {CODED} beside {BASELINE} (low rank)")
    result.add_column("removed", justify="right")
    for heading in ("embedding", "error", "agreement"):
        for method in (CODED, BASELINE):
            result.add_column(f"{heading}, {method}", justify="right")
    for pair in zip(*(of_method(points, method) for method in (CODED, BASELINE)), strict=True):
        result.add_row(
            f"{pair[0].removed:.1%}",
            *(megabytes(point.embedding_bytes) for point in pair),
            *(f"{point.error_fro:.3f}" for point in pair),
            *(f"{point.cosine_mean:.3f}" for point in pair),
        )
    return result


def ending(picture: Path | None) -> str:
    """Return where the picture is, or how to get one, and what to run next."""
    drawn = f"Picture: {picture}" if picture else 'No picture: matplotlib draws it. pip install "lpcompress[plots]"'
    return f"{drawn}\n\n{NEXT}"


def of_method(points: list[Point], method: str) -> list[Point]:
    """Return the points of one method."""
    return [point for point in points if point.method == method]
