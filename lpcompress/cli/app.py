"""The command line: parse, call, print. What takes seconds to import is imported inside the commands."""

import ctypes
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lpcompress.cli.options import (
    CalibrationOption,
    ClustersOption,
    ConfigOption,
    DataOption,
    DeviceOption,
    ExponentOption,
    JsonOption,
    LabelMapOption,
    LayersOption,
    LimitOption,
    MaxBytesOption,
    MethodOption,
    ModelArgument,
    NormOption,
    OverwriteOption,
    RatioOption,
    RowWeightsOption,
    SeedOption,
    TargetSizeOption,
    TemplateArgument,
    limits,
    pairs,
    shard_size,
    wish,
    words,
)
from lpcompress.cli.terminal import complain, only_first_process_speaks, progress_bar, quiet_libraries, show
from lpcompress.config.plan import DEFAULT_RATIO, Plan, plans_for
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.version import __version__

DEBUG = "LPCOMPRESS_DEBUG"
M_MMAP_THRESHOLD = -3  # of malloc.h

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # main() says known errors in a line; others keep their traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    """Make Hugging Face checkpoints smaller by factoring their layers, without data.

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
    method: MethodOption = None,
    p: NormOption = None,
    ratio: RatioOption = None,
    target_size: TargetSizeOption = None,
    max_bytes: MaxBytesOption = None,
    calibration: CalibrationOption = None,
    clusters: ClustersOption = None,
    row_weights: RowWeightsOption = None,
    exponent: ExponentOption = None,
    layers: LayersOption = None,
    config: ConfigOption = None,
    seed: SeedOption = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where to compute: cpu, cuda, cuda:1. Default: cpu; in several processes, their launcher's."),
    ] = None,
    eval_glue: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="The GLUE task that MODEL was fine-tuned on: score it before and after."),
    ] = None,
    data: DataOption = "hub",
    limit: LimitOption = None,
    label_map: LabelMapOption = None,
    max_shard_size: Annotated[
        str | None, typer.Option(help="Split the weight file, for example 2GB. Default: as MODEL is.")
    ] = None,
    stub: Annotated[
        bool, typer.Option("--stub", help="Add a file that imports lpcompress under trust_remote_code=True.")
    ] = False,
    save_plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what would be done to every layer, for --config; no more."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Replace layers of MODEL, by default the word embedding, by factored ones and save the result.

    Example: lpcompress compress roberta-base --p 1.0 --ratio 0.28
    """
    only_first_process_speaks()
    options: dict[str, Any] = {"method": method, "p": p, "ratio": ratio, "clusters": clusters}
    options |= {"row_weights": row_weights, "exponent": exponent, "layers": layers or None, "seed": seed}
    options |= {"target_size": target_size, "max_bytes": max_bytes, "calibration": calibration}
    plan = Plan(**wish(config, options))
    largest = shard_size(max_shard_size)
    quiet_libraries()
    from lpcompress import presentation
    from lpcompress.cli import conversion
    from lpcompress.compression import report
    from lpcompress.processes import joined_processes

    with progress_bar() as progress, joined_processes():
        common: dict[str, Any] = {"device": device, "data": data, "progress": progress}
        if dry_run or save_plan:
            found = conversion.foresee(model, plan, out=save_plan, overwrite=overwrite, **common)
            return show(presentation.as_json(found) if as_json else report.preview_table(found))
        scoring = conversion.Scoring(eval_glue, limit, label_map) if eval_glue else None
        saving: dict[str, Any] = {"max_shard_size": largest, "stub": stub, "overwrite": overwrite}
        target = out or _default_out(model)
        record, scores = conversion.convert(model, target, plan, scoring=scoring, **saving, **common)
    if as_json:
        return show(presentation.as_json(record))
    show(report.layer_table(record))
    if scores:
        from lpcompress.evaluation.report import glue_table

        show(glue_table(scores))


@app.command("eval-glue")
def eval_glue(
    model: TemplateArgument,
    tasks: Annotated[
        list[str] | None, typer.Option(metavar="all|mrpc,cola,...", help="Which tasks. Default: all nine. Also: ax.")
    ] = None,
    data: DataOption = "hub",
    baseline: Annotated[
        str | None, typer.Option(metavar="MODEL|TEMPLATE", help="What a compressed MODEL was made from.")
    ] = None,
    method: MethodOption = None,
    methods: Annotated[
        list[str] | None, typer.Option(metavar="svd,lp,...", help="Compare several methods in one run.")
    ] = None,
    p: NormOption = None,
    ratio: RatioOption = None,
    target_size: TargetSizeOption = None,
    max_bytes: MaxBytesOption = None,
    calibration: CalibrationOption = None,
    clusters: ClustersOption = None,
    row_weights: RowWeightsOption = None,
    exponent: ExponentOption = None,
    layers: LayersOption = None,
    config: ConfigOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    limit: LimitOption = None,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch.")] = 32,
    label_map: LabelMapOption = None,
    primary: Annotated[
        list[str] | None, typer.Option(metavar="TASK=METRIC", help="One metric as a task's score, such as mrpc=f1.")
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(metavar="X|TASK=X|average=X", help="Exit with 3 if the average or a task loses more points."),
    ] = None,
    min_recovery: Annotated[
        list[str] | None,
        typer.Option(metavar="X|TASK=X|average=X", help="Exit with 3 if compressed / baseline is below, such as 0.98."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the results; finished parts go beside it.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was ended, with the same --out.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Score MODEL on GLUE, without fine-tuning: alone, before and after compression, or beside --baseline.

    With --ratio or another option of compress, each task's model is compressed in memory.

    Example: lpcompress eval-glue "textattack/roberta-base-{TASK}" --p 1.0 --ratio 0.28
    """
    only_first_process_speaks()
    options: dict[str, Any] = {"method": method, "p": p, "ratio": ratio, "clusters": clusters}
    options |= {"row_weights": row_weights, "exponent": exponent, "layers": layers or None}
    options |= {"target_size": target_size, "max_bytes": max_bytes, "calibration": calibration}
    plan, compared = wish(config, options), words(methods)
    if compared and method is None:
        plan.pop("method", None)  # that of a file; the command line wins
    plans_for(compared, plan)  # a wrong wish is refused before the long imports
    gates = {"max_drop": limits("--max-drop", max_drop), "min_recovery": limits("--min-recovery", min_recovery)}
    quiet_libraries()
    from lpcompress import presentation
    from lpcompress.evaluation import benchmark, report
    from lpcompress.processes import joined_processes

    settings: dict[str, Any] = {"seed": 0} | plan | gates
    settings |= {"data": data, "baseline": baseline, "methods": compared, "label_map": label_map, "out": out}
    settings |= {
        "limit": limit,
        "batch_size": batch_size,
        "primary": pairs(primary),
        "resume": resume,
        "device": device,
    }
    settings |= {} if seed is None else {"seed": seed}
    with progress_bar() as progress, joined_processes():
        document = benchmark.eval_glue(model, tasks or "all", progress=progress, **settings)
    show(presentation.as_json(document) if as_json else report.glue_table(document))
    raise typer.Exit(_verdict(document))


@app.command()
def finetune(
    model: ModelArgument,
    task: Annotated[str, typer.Option(help="The GLUE task to train on.")],
    out: Annotated[Path, typer.Option(help="Directory for the checkpoint.")],
    data: DataOption = "hub",
    split: Annotated[str, typer.Option(help="Rows to train on.")] = "train",
    epochs: Annotated[float, typer.Option(help="How often each row is seen.")] = 2,
    max_steps: Annotated[int | None, typer.Option(help="Number of batches, whatever the epochs.")] = None,
    distill: Annotated[
        str | None,
        typer.Option(metavar="TEACHER", help="A model, mostly the dense one, to follow in logits and hidden states."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Names (wildcards) or words as for --layers, not trained. Repeatable."),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="The highest; rises for a tenth of the run, then falls.")] = 5e-5,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch, in each process.")] = 32,
    mixed_precision: Annotated[str, typer.Option(metavar="no|bf16|fp16", help="Precision of the products.")] = "no",
    train_limit: Annotated[int | None, typer.Option(help="Only so many training rows.")] = None,
    limit: LimitOption = None,
    label_map: LabelMapOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was ended.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train MODEL, dense or compressed, on a GLUE task and save the result; a model without a head gets one.

    Example: lpcompress finetune roberta-mrpc-lpcompress --task mrpc --out tuned --distill roberta-mrpc
    """
    only_first_process_speaks()
    quiet_libraries()
    from lpcompress import presentation
    from lpcompress.finetuning import report, run
    from lpcompress.processes import joined_processes

    options: dict[str, Any] = {"data": data, "split": split, "train_limit": train_limit, "limit": limit}
    options |= {"distill": distill, "label_map": label_map, "device": device, "resume": resume, "overwrite": overwrite}
    options |= {"epochs": epochs, "max_steps": max_steps, "learning_rate": learning_rate, "batch_size": batch_size}
    options |= {"freeze": tuple(freeze or ()), "mixed_precision": mixed_precision, "seed": seed or 0}
    with progress_bar() as progress, joined_processes():
        document = run.finetune(model, task, out, progress=progress, **options)
    show(presentation.as_json(document) if as_json else report.finetuning_table(document))


@app.command()
def inspect(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Say what is in MODEL: layers, shares, spectrum of its embedding; for a compressed one, what was done.

    Example: lpcompress inspect roberta-base-lpcompress
    """
    quiet_libraries()
    from lpcompress import inspection, presentation

    found = inspection.inspect(model)
    show(*([presentation.as_json(found)] if as_json else inspection.inspection_tables(found)))


@app.command()
def densify(
    source: Annotated[str, typer.Argument(metavar="DIR", help="A compressed checkpoint, or the Hub id of one.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Multiply the layers of DIR out again: a plain checkpoint that loads without lpcompress.

    Example: lpcompress densify roberta-base-lpcompress roberta-base-dense
    """
    quiet_libraries()
    from lpcompress.checkpoints import files, saving

    saving.densify(source, out, overwrite)
    show(f"{out}: {files.file_bytes(out) / 1e6:,.1f} MB, loads without lpcompress.")


@app.command()
def demo(
    ratio: Annotated[
        float, typer.Option(help="Share of the embedding's stored bytes to REMOVE, 0 to 1.")
    ] = DEFAULT_RATIO,
    as_json: JsonOption = False,
) -> None:
    """Compress a real model from PyPI with every method, reload it, and compare its sentence vectors.

    Example: lpcompress demo --ratio 0.6
    """
    Plan(ratio=ratio)  # refused if it makes no sense
    quiet_libraries()
    from lpcompress import presentation
    from lpcompress.evaluation import demo

    with progress_bar() as progress:
        rows = demo.run(ratio, progress)
    show(presentation.as_json(rows) if as_json else demo.table(rows, ratio))


def main() -> NoReturn:
    """Run the command line; the one place where known errors become a line on stderr and an exit code."""
    _return_memory_at_once()
    _end_tidily()
    warnings.showwarning = _one_line_warning  # type: ignore[assignment]
    try:
        app()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if code == 130:
            complain("Interrupted. Nothing half-written was left.")
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
    complain(f"Error: {_in_words(error)}")
    return code


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return str(error)


def _end_tidily() -> None:
    """Have kill and a closed terminal end the command as Ctrl-C does, unless they are ignored (nohup)."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _one_line_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    complain(f"Warning: {message}")


def _default_out(model: str) -> Path:
    return Path(Path(model).resolve().name + "-lpcompress")


def _verdict(document: dict[str, Any]) -> int:
    """Return the exit code of an evaluation whose results were written, and say what is wrong with them."""
    documents = (document.get("methods") or {"": document}).items()
    broken = [
        f"{name} {line}".strip() for name, each in documents for line in (each["gates"] or {}).get("failures", ())
    ]
    for line in broken:
        complain(f"Gate: {line}")
    failed = any(entry["status"] == "failed" for _, each in documents for entry in each["tasks"].values())
    return 3 if broken else int(failed)


def _return_memory_at_once() -> None:
    """Have glibc give freed blocks of a megabyte or more back to the system, instead of keeping them in its heap.

    Matrices are worked on in chunks of a few megabytes; kept, these fragments were a third of the peak memory.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)
