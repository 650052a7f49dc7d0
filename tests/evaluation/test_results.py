import json

import pytest

from lpcompress.compression.records import CompressionReport
from lpcompress.evaluation.results import FAILED, OUTCOME, UNLABELLED, Outcome, TaskResult
from lpcompress.glue.labels import LabelMap


def test_an_entry_without_a_result_has_only_its_reason():
    assert TaskResult(FAILED, "m", reason="no").entry() == {"status": "failed", "model": "m", "reason": "no"}


def test_an_entry_survives_json():
    entry = TaskResult(UNLABELLED, "m", labels=LabelMap((1, 0), "file"), predictions=["a"]).entry()
    assert json.loads(json.dumps(entry)) == entry
    assert entry["labels"] == {"order": [1, 0], "decided_by": "file"}
    assert "reason" not in entry


@pytest.mark.parametrize("compression", [None, CompressionReport([], 2, 1, seed=0, seconds=0.5, warnings=["w"])])
@pytest.mark.parametrize("predictions", [[0, 2, 1], [0.1 + 0.2, 4.0, -1e-17]])
def test_an_outcome_is_read_back_as_it_was(compression, predictions):
    outcome = Outcome("m", {"validation": predictions}, {"f1": 1 / 3}, LabelMap((1, 0), "file"), compression, 0.5)
    found = OUTCOME.validate_json(OUTCOME.dump_json(outcome))
    assert found == outcome
    assert list(map(type, found.predictions["validation"])) == list(map(type, predictions))
