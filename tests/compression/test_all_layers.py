"""Two processes on the CPU fit layers with the same bytes, records, warnings and errors as one."""

import json

import pytest

from lpcompress.compression.all_layers import common_folder
from lpcompress.errors import LpCompressError
from lpcompress.processes import Alone

CASES = {
    "svd": {"method": "svd"},
    "adaptive": {"method": "adaptive", "p": 1.5},
    "shared": {"method": "adaptive", "layers": ["*word_embeddings"]},  # a single layer, which both processes fit
    "shared-coded": {"method": "coded", "layers": ["*word_embeddings"]},
    "messi": {"method": "messi", "clusters": 2},
    "coded": {"method": "coded"},
    "sketch": {"method": "sketch"},  # the embedding is skipped, and a warning is given
    "budget": {"target_size": 0.5},
    "named": {"method": "svd", "ratio": 0.97, "layers": ["all", "*0.attention.self.value"]},  # too small for this ratio
    "none": {"method": "svd", "ratio": 0.9999},
}
SCRIPT = """
import json, sys, warnings
from dataclasses import asdict
from lpcompress.checkpoints import loading, saving
from lpcompress.compression import whole_model
from lpcompress.errors import LpCompressError
from lpcompress.processes import Workers, joined_processes


def run(source, out, workers, on_disk, **wish):
    wish = {"layers": ["all"], "row_weights": "uniform", "workers": workers} | wish
    model, _ = loading.load(source, on_disk=on_disk)
    found = {"preview": [asdict(layer) for layer in whole_model.preview(model, **wish).layers]}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            report = asdict(whole_model.compress(model, **wish))
        except LpCompressError as error:
            return found | {"error": f"{type(error).__name__}: {error}"}
    if alone or workers.is_main:
        saving.save(model, None, out, max_shard_size="8KB")
    sums = {name: float(tensor.abs().sum()) for name, tensor in model.named_parameters() if not tensor.is_meta}
    for timed in (report, *report["layers"]):
        del timed["seconds"]
    return found | {"report": report, "sums": sums, "warnings": [f"{w.category.__name__}: {w.message}" for w in said]}


source, out, cases, alone = json.loads(sys.argv[1])
with joined_processes():
    workers = None if alone else Workers("cpu")
    found = {}
    for on_disk in (False, True):
        for case, wish in cases.items():
            place = f"{case}-{'disk' if on_disk else 'memory'}"
            found[place] = run(source, f"{out}/{place}", workers, on_disk, **wish)
    if workers:
        every = workers.gather(found)
        assert every[0] == every[1], "the processes have different results"
print(json.dumps(found) if alone or workers.is_main else "", end="")
"""


def files(folder):
    """Return the content of every file, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_processes_give_the_bytes_records_warnings_and_errors_of_one(
    tiny_model, tmp_path, fresh_python, two_processes, monkeypatch
):
    tiny_model("bert", "lm", num_hidden_layers=1).save_pretrained(tmp_path / "source", max_shard_size="8KB")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    source, one, two = (str(tmp_path / name) for name in ("source", "one", "two"))
    alone = fresh_python(SCRIPT, json.dumps((source, one, CASES, True)))
    assert alone.returncode == 0, alone.stderr
    (tmp_path / "script.py").write_text(SCRIPT)
    shared = two_processes(tmp_path / "script.py", json.dumps((source, two, CASES, False)))
    assert shared.returncode == 0, shared.stderr

    expected, found = json.loads(alone.stdout), json.loads(shared.stdout)
    assert found == expected
    written = files(tmp_path / "one")
    assert len({path.split("/")[0] for path in written if path.endswith("safetensors")}) == 16
    assert files(tmp_path / "two") == written
    assert found["sketch-disk"]["warnings"][0].startswith("NeedsTrainingWarning: the 6 sketched layers")
    embeddings = [f"bert.embeddings.{kind}_embeddings" for kind in ("word", "position")]
    assert list(found["sketch-disk"]["report"]["skipped"]) == embeddings
    assert found["named-memory"]["error"].startswith("BudgetError: bert.encoder.layer.0.attention.self.value: ")
    assert found["none-memory"]["error"].startswith("BudgetError: ")
    assert list(scratch.glob("lpcompress-*")) == []


def test_processes_that_do_not_share_files_are_refused(tmp_path):
    class Elsewhere(Alone):
        def from_main(self, value):
            return tmp_path / "on another machine"

    with pytest.raises(LpCompressError, match=r"must be accessible to all processes of the run\. Set TMPDIR to"):
        common_folder(Elsewhere()).__enter__()
