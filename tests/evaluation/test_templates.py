import pytest

from lpcompress.errors import PlanError
from lpcompress.evaluation.templates import models_of
from lpcompress.glue.tasks import TASKS, chosen


def test_a_template_is_filled_with_each_spelling():
    tasks = chosen("sst2,stsb,ax")
    assert models_of("a/{TASK}", tasks) == {"sst2": "a/SST-2", "stsb": "a/STS-B", "ax": "a/MNLI"}
    assert models_of("a/{task}-{Task}", tasks) == {"sst2": "a/sst2-Sst2", "stsb": "a/stsb-Stsb", "ax": "a/mnli-Mnli"}


def test_one_model_is_for_one_task():
    assert models_of("org/model", chosen("mrpc")) == {"mrpc": "org/model"}
    assert models_of("org/model", chosen("mnli,ax")) == {"mnli": "org/model", "ax": "org/model"}
    with pytest.raises(PlanError, match=r"org/model is one model, fine-tuned on one task. Name that task"):
        models_of("org/model", chosen("all"))


def test_a_file_maps_tasks_to_models(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("mrpc: org/a\nmnli: org/b\nqqp: null\n")
    models = models_of(str(path), [*TASKS.values(), *chosen("ax")])
    assert {key for key, model in models.items() if model} == {"mrpc", "mnli", "ax"}
    assert models["ax"] == "org/b"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read"),
        ("a: [", "not valid YAML. Write one `task: model` per line."),
        ("- mrpc", "must map tasks to models"),
        ("mprc: x", "Got 'mprc'; did you mean 'mrpc'?"),
        ("mrpc: 3", "the model of mrpc must be a Hub id, a directory or null. Got 3."),
    ],
)
def test_an_invalid_file_is_refused(tmp_path, text, sentence):
    path = tmp_path / "models.yml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PlanError, match=r".*models.yml.*") as error:
        models_of(str(path), chosen("all"))
    assert sentence in str(error.value)
