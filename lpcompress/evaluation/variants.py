"""A plan of compression as a variant of a model, to be scored in its place."""

from pathlib import Path
from typing import Any

from lpcompress.compression import whole_model
from lpcompress.compression.records import CompressionReport
from lpcompress.config.plan import Plan
from lpcompress.evaluation.setup import Setup, Variant
from lpcompress.progress import Progress


def variant_of(name: str, plan: Plan, setup: Setup) -> Variant:
    """Return a plan as a variant; its store key holds the plan and the content of the row weights file."""

    def prepare(model: Any, tokenizer: Any, progress: Progress) -> CompressionReport:
        where: dict[str, Any] = {"data": setup.scoring.data, "workers": setup.workers}
        return whole_model.compress(model, plan, tokenizer=tokenizer, progress=progress, **where)

    counts = Path(plan.row_weights)
    content = counts.read_text(encoding="utf-8") if counts.is_file() else None
    return Variant(name, prepare, {"compression": plan.model_dump(mode="json"), "row_weights": content})
