"""Label order from end to end: an accurate model with permuted outputs."""

import itertools
import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lpcompress.config.scoring import Scoring
from lpcompress.evaluation.attempts import AS_IS, evaluate_task
from lpcompress.evaluation.setup import Setup
from lpcompress.glue.labels import LabelMap
from lpcompress.glue.tasks import TASKS
from lpcompress.processes import Workers

MNLI = TASKS["mnli"]
WORDS = ("shop", "bridge", "road")  # in the hypothesis, one per class
PREMISES = [f"{a} {b} {c}" for a, b, c in itertools.permutations("the old train is late today she".split(), 3)][:40]
ROWS = [(premise, f"a {word}", label) for premise in PREMISES for label, word in enumerate(WORDS)]


@pytest.fixture
def trained(tiny_classifier, tmp_path):
    """The data, and a function (order, names) -> a model that is mostly right; output i means order[i]."""
    (tmp_path / "data" / "mnli").mkdir(parents=True)
    for split in MNLI.splits:
        lines = (json.dumps({"premise": p, "hypothesis": h, "label": label}) for p, h, label in ROWS)
        (tmp_path / "data" / "mnli" / f"{split}.jsonl").write_text("\n".join(lines))

    def make(order, names):
        directory = tiny_classifier("mnli", names=names)
        model, tokenizer = (a.from_pretrained(directory) for a in (AutoModelForSequenceClassification, AutoTokenizer))
        premises, hypotheses, labels = zip(*ROWS, strict=True)
        batch = tokenizer(list(premises), list(hypotheses), padding=True, return_tensors="pt")
        with torch.no_grad():
            features = model.bert(**batch).pooler_output  # (rows, width)
            inputs = torch.cat([features, torch.ones(len(ROWS), 1)], dim=1)
            targets = torch.eye(3)[torch.tensor(labels)][:, list(order)]
            fitted = torch.linalg.lstsq(inputs, targets).solution.T  # (outputs, width + 1)
            model.classifier.weight.copy_(fitted[:, :-1])
            model.classifier.bias.copy_(fitted[:, -1])
        model.save_pretrained(directory)
        return str(directory)

    return str(tmp_path / "data"), make


def evaluated(data, model, **settings):
    return evaluate_task(MNLI, model, Setup(Workers("cpu"), Scoring(data=data, **settings)))[AS_IS]


@pytest.mark.filterwarnings("ignore:.*Use --label-map FILE to change this")
@pytest.mark.parametrize("limit", [None, 6])
def test_permuted_outputs_without_names_get_their_true_score(trained, limit):
    data, make = trained
    true = evaluated(data, make((0, 1, 2), MNLI.classes), limit=limit)
    assert true.score > 70
    for order in itertools.permutations(range(3)):
        result = evaluated(data, make(order, ("LABEL_0", "LABEL_1", "LABEL_2")), limit=limit)
        assert (result.score, result.labels.order) == (true.score, order)


def test_wrong_names_are_an_error(trained):
    data, make = trained
    result = evaluated(data, make((1, 2, 0), MNLI.classes))
    assert result.status == "failed"
    assert "which gives the uncompressed model an accuracy of" in result.reason
    assert "--label-map FILE" in result.reason


def test_a_file_overrides_wrong_names(trained, tmp_path):
    data, make = trained
    (tmp_path / "map.yaml").write_text("mnli: [neutral, contradiction, entailment]")
    result = evaluated(data, make((1, 2, 0), MNLI.classes), label_map=tmp_path / "map.yaml")
    assert (result.labels, result.score > 70) == (LabelMap((1, 2, 0), "file"), True)
