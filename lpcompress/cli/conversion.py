"""From one checkpoint to a smaller one: load, compress, score, write."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpcompress.checkpoints import loading, saving
from lpcompress.checkpoints.files import REPORT_FILE, directory_of, file_bytes, largest_shard
from lpcompress.compression import report, whole_model
from lpcompress.config.plan import Plan
from lpcompress.config.saving import Saving
from lpcompress.config.scoring import Scoring
from lpcompress.errors import LpCompressError
from lpcompress.presentation import as_json
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent

if TYPE_CHECKING:
    from lpcompress.evaluation.evaluation import Evaluation


@dataclass(frozen=True)
class Conversion:
    """A checkpoint, and what is to be made of it.

    Attributes
    ----------
    model : str
        Hub id or directory.
    plan : Plan
    scoring : Scoring
        Its `data` is where GLUE is, for calibration too.
    device : str or None
        Where to factor; by default the CPU, in several processes their launcher's.
    progress : Progress
    """

    model: str
    plan: Plan
    scoring: Scoring = field(default_factory=Scoring)
    device: str | None = None
    progress: Progress = silent

    def convert(self, target: Path, how: Saving, task: str | None = None) -> "tuple[dict[str, Any], Evaluation | None]":
        """Compress the checkpoint into a directory.

        Parameters
        ----------
        target : Path
        how : Saving
        task : str, optional
            The GLUE task that the model was fine-tuned on: it is scored before and after.

        Returns
        -------
        tuple of dict and Evaluation or None
            The report, as `lpcompress.json` holds it; the scores. The same in every process.

        Raises
        ------
        PlanError
            If an option makes no sense.
        LpCompressError
            If the model cannot be loaded, compressed or scored, or the target cannot be written; nothing is written
            then.
        """
        workers = self._workers
        workers.main_alone(lambda: saving.refuse_existing(target, how.overwrite))
        self.progress(f"loading {self.model}")
        exam = None
        if task:
            from lpcompress.evaluation.before_after import BeforeAfter  # 90 MB of datasets that nobody else needs

            exam = BeforeAfter(self.model, task, self.scoring, workers=workers, progress=self.progress)
        loaded, tokenizer = (exam.model, exam.tokenizer) if exam else self._load()
        directory = directory_of(self.model)
        before = file_bytes(directory) if directory else 0
        done = whole_model.compress(loaded, self.plan, tokenizer=tokenizer, device=self.device, **self._common)
        kind = type(loaded).__name__
        files = report.companion_files(done, model=self.model, out=target, before=before, auto_class=kind)
        scores = exam.after() if exam else None

        def texts(directory: Path) -> dict[str, str]:
            written = files(directory)
            if scores is None:
                return written
            from lpcompress.evaluation.card import with_scores

            record = json.loads(written[REPORT_FILE]) | {"glue": scores.document()}
            card = with_scores(written[report.CARD_FILE], scores, target.name)
            return {REPORT_FILE: as_json(record) + "\n", report.CARD_FILE: card}

        self.progress(f"saving {target}")
        options = how.model_dump() | {"max_shard_size": how.max_shard_size or largest_shard(self.model)}
        workers.main_alone(lambda: saving.save(loaded, tokenizer, target, texts, **options))
        written = workers.main_alone(lambda: (target / REPORT_FILE).read_text(encoding="utf-8"))
        return json.loads(workers.from_main(written)), scores

    def foresee(self, out: Path | None = None, overwrite: bool = False) -> list[dict[str, Any]]:
        """Say what `convert` would do to each layer, without a fit.

        Parameters
        ----------
        out : Path, optional
            File for the plan that does exactly that.
        overwrite : bool, default=False
            Replace that file.

        Returns
        -------
        list of dict
            See `compression.records.Preview`.
        """
        if out:
            self._workers.main_alone(lambda: _refuse_existing_file(out, overwrite))
        self.progress(f"loading {self.model}")
        loaded, tokenizer = self._load()
        found = whole_model.preview(loaded, self.plan, tokenizer=tokenizer, **self._common)
        if out:
            self._workers.main_alone(lambda: out.write_text(found.plan.to_yaml(), encoding="utf-8"))
        return found.layers

    @cached_property
    def _workers(self) -> Workers:
        return Workers(self.device, alone="cpu")

    @property
    def _common(self) -> dict[str, Any]:
        return {"workers": self._workers, "progress": self.progress, "data": self.scoring.data}

    def _load(self) -> tuple[Any, Any]:
        """Return model and tokenizer; tensors stay in their files unless text must be run through the model."""
        return self._workers.together(lambda: loading.load(self.model, on_disk=self.plan.calibration is None))


def _refuse_existing_file(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise LpCompressError(f"{path} exists. Choose another file, or pass --overwrite to replace it.")
