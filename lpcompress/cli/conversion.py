"""From one checkpoint to a smaller one: load, compress, score, write."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpcompress.checkpoints import loading, saving
from lpcompress.checkpoints.files import directory_of, file_bytes, largest_shard
from lpcompress.compression import whole_model
from lpcompress.compression.card import CARD_FILE, model_card
from lpcompress.compression.records import LayerPreview
from lpcompress.compression.report import CheckpointReport
from lpcompress.config.plan import Plan
from lpcompress.errors import LpCompressError
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent


@dataclass(frozen=True)
class Scoring:
    """The GLUE task that a model was fine-tuned on, and how it is scored before and after: see `eval_glue`."""

    task: str
    limit: int | None = None
    label_map: Path | None = None


def convert(
    model: str,
    target: Path,
    plan: Plan,
    *,
    device: str | None = None,
    data: str = "hub",
    scoring: Scoring | None = None,
    max_shard_size: int | None = None,
    stub: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[CheckpointReport, dict[str, Any] | None]:
    """Compress a checkpoint into a directory.

    Parameters
    ----------
    model : str
        Hub id or directory.
    target : Path
    plan : Plan
    device : str, optional
        Where to factor; by default the CPU, in several processes their launcher's.
    data : str, default="hub"
        Where GLUE is, for calibration and scoring.
    scoring : Scoring, optional
    max_shard_size : int, optional
        Bytes of a weight file; by default as the model's are.
    stub : bool, default=False
        Add a file that imports lpcompress under `trust_remote_code=True`.
    overwrite : bool, default=False
    progress : Progress

    Returns
    -------
    tuple of CheckpointReport and dict or None
        The content of `lpcompress.json`; the scores, as from `eval_glue`. The same in every process of a run.

    Raises
    ------
    PlanError
        If an option makes no sense.
    LpCompressError
        If the model cannot be loaded, compressed or scored, or the target cannot be written; nothing is written then.
    """
    workers = Workers(device, alone="cpu")
    workers.main_alone(lambda: saving.refuse_existing(target, overwrite))
    progress(f"loading {model}", 0, 0)
    if scoring:
        from lpcompress.evaluation import benchmark  # 90 MB of datasets and pyarrow that nobody else needs
        from lpcompress.evaluation.report import with_scores

        exam = benchmark.BeforeAfter(
            model,
            scoring.task,
            data=data,
            limit=scoring.limit,
            label_map=scoring.label_map,
            workers=workers,
            progress=progress,
        )
        loaded, tokenizer = exam.model, exam.tokenizer
    else:
        loaded, tokenizer = _load(model, plan, workers)
    directory = directory_of(model)
    before = file_bytes(directory) if directory else 0
    common: dict[str, Any] = {"tokenizer": tokenizer, "workers": workers, "progress": progress, "data": data}
    done = whole_model.compress(loaded, device=device, **common, **plan.model_dump())
    scores = exam.after() if scoring else None
    progress(f"saving {target}", 0, 0)

    def save() -> CheckpointReport:
        with saving.new_checkpoint(target, overwrite) as directory:
            saving.write(directory, loaded, tokenizer, max_shard_size or largest_shard(model), stub)
            after = file_bytes(directory)
            report = CheckpointReport.of(done, model=model, out=target, before=before, after=after, glue=scores)
            report.write(directory)
            card = model_card(report, type(loaded).__name__)
            card = with_scores(card, scores, target.name) if scores else card
            (directory / CARD_FILE).write_text(card, encoding="utf-8")
        return report

    return workers.from_main(workers.main_alone(save)), scores


def foresee(
    model: str,
    plan: Plan,
    *,
    out: Path | None = None,
    device: str | None = None,
    data: str = "hub",
    overwrite: bool = False,
    progress: Progress = silent,
) -> list[LayerPreview]:
    """Say what `convert` would do to each layer, without a fit.

    Parameters
    ----------
    model, plan, device, data, progress
        As for `convert`.
    out : Path, optional
        File for the plan that does exactly that.
    overwrite : bool, default=False
        Replace that file.

    Returns
    -------
    list of LayerPreview
    """
    workers = Workers(device, alone="cpu")
    if out:
        workers.main_alone(lambda: _refuse_existing_file(out, overwrite))
    progress(f"loading {model}", 0, 0)
    loaded, tokenizer = _load(model, plan, workers)
    common: dict[str, Any] = {"tokenizer": tokenizer, "workers": workers, "progress": progress, "data": data}
    found = whole_model.preview(loaded, **common, **plan.model_dump())
    if out:
        workers.main_alone(lambda: out.write_text(Plan(**found.plan).to_yaml(), encoding="utf-8"))
    return found.layers


def _refuse_existing_file(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise LpCompressError(f"{path} exists. Choose another file, or pass --overwrite to replace it.")


def _load(model: str, plan: Plan, workers: Workers) -> tuple[Any, Any]:
    """Return model and tokenizer; tensors stay in their files unless text must be run through the model."""
    return workers.together(lambda: loading.load(model, on_disk=plan.calibration is None))
