"""Turn a checkpoint into a smaller one: load, compress, score, write."""

from collections.abc import Sequence
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
from lpcompress.config.scoring import Scoring, seeks_size
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent

if TYPE_CHECKING:
    from lpcompress.evaluation.evaluation import Evaluation
    from lpcompress.evaluation.trials import Trial


@dataclass(frozen=True)
class Converted:
    """Result of `Conversion.convert`, the same in every process.

    Attributes
    ----------
    report : CheckpointReport or None
        The content of `lpcompress.json`; None if no size passed the gates, so that nothing was written.
    scores : Evaluation or None
        Scores before and after; None without a task.
    tried : sequence of Trial
        Sizes that were tried to find the smallest that passes the gates; empty if a size was given.
    """

    report: CheckpointReport | None
    scores: "Evaluation | None" = None
    tried: "Sequence[Trial]" = ()

    def document(self) -> dict[str, Any]:
        """Return what `compress --json` prints: the report, or what there is without one."""
        if self.report:
            return self.report.document()
        tried = [trial.document() for trial in self.tried]
        return {"out": None, "tried": tried, "glue": self.scores.document() if self.scores else None}


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
        return located(self.name, **self.origin.given())

    def convert(self, target: Path, how: Saving, task: str | None = None, resume: bool = False) -> Converted:
        """Compress the checkpoint and write the result to a directory.

        Parameters
        ----------
        target : Path
            Directory to create.
        how : Saving
        task : str, optional
            GLUE task that the model was fine-tuned on; if given, the model is scored before and after. If `scoring` has
            gates and the plan no size, the smallest size that passes is written.
        resume : bool, default=False
            Use the scores of sizes that an earlier run with the same target tried.

        Returns
        -------
        Converted

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
        exam = search = None
        if task:
            # 90 MB of datasets that nobody else needs
            from lpcompress.evaluation.before_after import BeforeAfter
            from lpcompress.evaluation.results import OUTCOME
            from lpcompress.evaluation.search import smallest_passing
            from lpcompress.evaluation.store import Store

            seeks = seeks_size(self.plan, self.scoring)
            store = Store.beside(target, resume, OUTCOME) if seeks else None
            exam = BeforeAfter(self.model, task, self.scoring, workers=workers, progress=self.progress, store=store)
            search = smallest_passing(exam, self.plan, self.progress) if seeks else None
        if search and search.plan is None:
            return Converted(None, self._named(search.scores), search.tried)
        plan = search.plan if search and search.plan else self.plan
        loaded, tokenizer = (exam.model, exam.tokenizer) if exam else self._load()
        directory = directory_of(self.model)
        before = file_bytes(directory) if directory else 0
        probe = None if how.no_verify else workers.main_alone(lambda: Probe.of(loaded))
        common = self._common(how.max_shard_size)
        done = whole_model.compress(loaded, plan, tokenizer=tokenizer, device=self.device, **common)
        scores = self._named(search.scores if search else exam.after()) if exam else None
        tried = [trial.document() for trial in search.tried] if search else None
        self.progress(f"saving {target}")

        def save() -> CheckpointReport:
            with saving.new_checkpoint(target, how.overwrite, [self.model]) as directory:
                shard = common["max_shard_size"]
                written = saving.write(directory, loaded, tokenizer, shard, how.stub, self.model, probe, self.progress)
                sizes: dict[str, Any] = {"before": before, "after": file_bytes(directory)}
                glue = scores.document() if scores else None
                made: dict[str, Any] = {
                    "origin": self.origin.given(),
                    "plan": plan.model_dump(mode="json", exclude_unset=True),
                    "glue": glue,
                    "tried": tried,
                }
                report = CheckpointReport.of(done, model=self.name, out=target, written=written, **made, **sizes)
                (directory / CARD_FILE).write_text(self._card(report, loaded, scores), encoding="utf-8")
                return report.write(directory)

        report = workers.from_main(workers.main_alone(save))
        return Converted(report, scores, search.tried if search else ())

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

    def _named(self, scores: "Evaluation") -> "Evaluation":
        """Return scores with the model as the user named it."""
        return replace(scores, model=self.name, baseline=self.name)

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
