"""The maps of tasks to public checkpoints in configs/."""

import re
from pathlib import Path

import pytest

from lpcompress.evaluation.templates import models_of
from lpcompress.glue.tasks import TASKS, chosen

CONFIGS = Path(__file__).parent.parent.parent / "configs"
GAPS = {"bert": set(), "distilbert": set(), "roberta": {"qqp", "mnli"}, "xlnet": {"sst2", "qqp", "mnli", "qnli"}}


@pytest.mark.parametrize("architecture", GAPS)
def test_every_task_has_a_checkpoint_of_the_family_or_is_marked_as_a_gap(architecture):
    path = CONFIGS / f"glue-{architecture}.yaml"
    models = models_of(str(path), chosen("all"))
    assert {task for task, model in models.items() if model is None} == GAPS[architecture]
    for task, model in models.items():
        assert re.search(rf"^{task}: ", path.read_text(), re.MULTILINE)
        if model and model.startswith("textattack/"):
            assert re.fullmatch(rf"textattack/{architecture}-base(-cased|-uncased)?-{TASKS[task].spelling}", model)
        elif model:
            assert re.fullmatch(r"[\w-]+/[\w.-]+", model)


def test_all_maps_are_tested():
    assert {path.stem for path in CONFIGS.glob("glue-*.yaml")} == {f"glue-{name}" for name in GAPS}
