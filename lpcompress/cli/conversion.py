"""Turn a checkpoint into a smaller one: load, compress, score, write."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpcompress.atomic import refuse_unwritable, write_atomically
from lpcompress.checkpoints import loading, saving
from lpcompress.checkpoints.files import CARD_FILE, directory_of, file_bytes, largest_shard
from lpcompress.checkpoints.origins import located
from lpcompress.checkpoints.verification import Probe
from lpcompress.compression import whole_model
from lpcompress.compression.card import model_card
from lpcompress.compression.lineage import inherited
from lpcompress.compression.records import LayerPreview
from lpcompress.compression.report import CheckpointReport
from lpcompress.config.origin import Origin
from lpcompress.config.plan import Plan
from lpcompress.config.saving import Saving
from lpcompress.config.scoring import Scoring
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent

if TYPE_CHECKING:
    from lpcompress.evaluation.evaluation import Evaluation


@dataclass(frozen=True)
class Conversion:
    """A checkpoint, and how to compress it.

    Attributes
    ----------
    name : str
        Hub id or directory.
    plan : Plan
    scoring : Scoring
        Its `data` is the source of GLUE, also for calibration.
    device : str or None
        Where to factor. The default is the CPU; with several processes, the device that the launcher assigns.
    progress : Progress
    origin : Origin
        Which version of the model.
    """

    name: str
    plan: Plan
    scoring: Scoring = field(default_factory=Scoring)
    device: str | None = None
    progress: Progress = silent
    origin: Origin = field(default_factory=Origin)

    @cached_property
    def model(self) -> str:
        """What is loaded: `name`, or the local directory of that version of it."""
        return located(self.name, self.origin.revision, self.origin.subfolder)

    def convert(
        self, target: Path, how: Saving, task: str | None = None
    ) -> "tuple[CheckpointReport, Evaluation | None]":
        """Compress the checkpoint and write the result to a directory.

        Parameters
        ----------
        target : Path
            Directory to create.
        how : Saving
        task : str, optional
            GLUE task that the model was fine-tuned on; if given, the model is scored before and after.

        Returns
        -------
        report : CheckpointReport
            The content of `lpcompress.json`, the same in every process.
        scores : Evaluation or None
            The same in every process; None without a task.

        Raises
        ------
        PlanError
            If an option is invalid.
        LpCompressError
            If the model cannot be loaded, compressed or scored, or the target cannot be written. Nothing is written in
            that case.
        """
        workers = self._workers
        workers.main_alone(lambda: saving.refuse_existing(target, how.overwrite, [self.model]))
        self.progress(f"loading {self.name}")
        exam = None
        if task:
            from lpcompress.evaluation.before_after import BeforeAfter  # 90 MB of datasets that nobody else needs

            exam = BeforeAfter(self.model, task, self.scoring, workers=workers, progress=self.progress)
        loaded, tokenizer = (exam.model, exam.tokenizer) if exam else self._load()
        directory = directory_of(self.model)
        before = file_bytes(directory) if directory else 0
        probe = None if how.no_verify else workers.main_alone(lambda: Probe.of(loaded))
        common = self._common(how.max_shard_size)
        done = whole_model.compress(loaded, self.plan, tokenizer=tokenizer, device=self.device, **common)
        scores = replace(exam.after(), model=self.name, baseline=self.name) if exam else None
        self.progress(f"saving {target}")

        def save() -> CheckpointReport:
            with saving.new_checkpoint(target, how.overwrite, [self.model]) as directory:
                shard = common["max_shard_size"]
                written = saving.write(directory, loaded, tokenizer, shard, how.stub, self.model, probe)
                sizes: dict[str, Any] = {"before": before, "after": file_bytes(directory)}
                glue = scores.document() if scores else None
                made: dict[str, Any] = {
                    "origin": self.origin.given(),
                    "plan": self.plan.model_dump(mode="json", exclude_unset=True),
                    "glue": glue,
                }
                report = CheckpointReport.of(done, model=self.name, out=target, written=written, **made, **sizes)
                (directory / CARD_FILE).write_text(self._card(report, loaded, scores), encoding="utf-8")
                return report.write(directory)

        return workers.from_main(workers.main_alone(save)), scores

    def preview(
        self, out: Path | None = None, overwrite: bool = False, max_shard_size: int | None = None
    ) -> list[LayerPreview]:
        """Return what `convert` would do to each layer, without fitting any.

        Parameters
        ----------
        out : Path, optional
            File to write the plan to that does exactly this.
        overwrite : bool, default=False
            Whether to replace that file if it exists.
        max_shard_size : int, optional
            As in `Saving`.

        Returns
        -------
        list of LayerPreview

        Raises
        ------
        LpCompressError
            If the model cannot be loaded, or the file exists or cannot be written.
        """
        if out:
            self._workers.main_alone(lambda: refuse_unwritable(out, overwrite))
        self.progress(f"loading {self.name}")
        loaded, tokenizer = self._load()
        found = whole_model.preview(loaded, self.plan, tokenizer=tokenizer, **self._common(max_shard_size))
        if out:
            self._workers.main_alone(lambda: write_atomically(out, found.plan.to_yaml(), overwrite))
        return found.layers

    def _card(self, report: CheckpointReport, loaded: Any, scores: "Evaluation | None") -> str:
        """Return the model card, including the scores if there are any."""
        card = model_card(report, type(loaded).__name__, inherited(directory_of(self.model)))
        if scores is None:
            return card
        from lpcompress.evaluation.card import with_scores

        return with_scores(card, scores, Path(report.out).name)

    @cached_property
    def _workers(self) -> Workers:
        return Workers(self.device, alone="cpu")

    def _common(self, max_shard_size: int | None) -> dict[str, Any]:
        common = {"workers": self._workers, "progress": self.progress, "data": self.scoring.data}
        return common | {"max_shard_size": max_shard_size or largest_shard(self.model)}

    def _load(self) -> tuple[Any, Any]:
        """Return model and tokenizer; tensors stay on disk unless calibration must run the model."""
        return self._workers.together(lambda: loading.load(self.model, on_disk=self.plan.text is None))
