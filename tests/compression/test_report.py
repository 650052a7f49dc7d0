"""Reports, tables and model cards."""

import json
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from lpcompress import presentation
from lpcompress.compression import report
from lpcompress.compression.card import model_card
from lpcompress.compression.records import CompressionReport, LayerPreview, LayerRecord
from lpcompress.compression.report import CheckpointReport
from lpcompress.errors import CheckpointError

CONTRACT = {
    "lpcompress_version",
    "model",
    "out",
    "seed",
    "seconds",
    "peak_rss_bytes",
    "parameters_before",
    "parameters_after",
    "file_bytes_before",
    "file_bytes_after",
    "layers",
}
LAYER_CONTRACT = {
    "name",
    "kind",
    "shape",
    "method",
    "p",
    "clusters",
    "ranks",
    "rows",
    "parameters_before",
    "parameters_after",
    "bytes_before",
    "bytes_after",
    "removed",
    "row_weights",
    "error_fro",
    "error_p",
    "error_weighted",
    "seconds",
}


@pytest.fixture
def done():
    layer = LayerRecord(
        name="embeddings.word_embeddings",
        kind="embedding",
        shape=[30522, 384],
        method="adaptive",
        p=1.0,
        clusters=4,
        ranks=[323, 367, 245, 112],
        rows=[1122, 12773, 8387, 8240],
        parameters_before=11720448,
        parameters_after=8434000,
        bytes_before=46881792,
        bytes_after=33741000,
        removed=0.2803,
        row_weights="zipf",
        error_fro=0.3,
        error_p=0.31,
        error_weighted=0.18,
        seconds=1.2,
        svd_error_fro=0.296,
        svd_error_weighted=0.41,
        candidates={"sparse": 0.2, "adaptive": 0.18},
    )
    return CompressionReport(layers=[layer], parameters_before=22713216, parameters_after=19426768, seed=0, seconds=1.3)


def of(done, **files):
    return CheckpointReport.of(done, **{"model": "m", "out": "out", "before": 1, "after": 1} | files)


@pytest.fixture
def summary(done):
    return of(done, model="org/minilm", out="minilm-lpcompress", before=90868376, after=77727000)


def test_the_json_has_the_documented_keys(summary):
    document = json.loads(presentation.as_json(summary))
    assert set(document) >= CONTRACT
    assert set(document["layers"][0]) >= LAYER_CONTRACT
    assert document == summary.document()
    assert not {"glue", "finetuning"} & set(document)
    assert document["peak_rss_bytes"] > 10_000_000


def test_nan_is_refused(summary):
    with pytest.raises(ValueError, match="JSON"):
        presentation.as_json(replace(summary, seconds=float("nan")))


def test_the_report_is_written_and_read_back(done, tmp_path):
    scored = of(done, glue={"tasks": {"mrpc": {"score": 80.0}}}, after=1234)
    written = scored.write(tmp_path)
    document = json.loads((tmp_path / "lpcompress.json").read_text())
    assert document["file_bytes_after"] == 1234 and document["glue"]["tasks"]["mrpc"]["score"] == 80.0
    assert replace(written, digests=None) == scored
    published = replace(written, out="./out")
    assert CheckpointReport.from_document(document | {"a key of the future": 1}) == published


def test_the_report_of_an_older_version_is_read(summary):
    document = json.loads(presentation.as_json(summary))
    old = {key: value for key, value in document.items() if key in CONTRACT}
    old["layers"] = [{key: value for key, value in layer.items() if key in LAYER_CONTRACT} for layer in old["layers"]]
    [layer] = CheckpointReport.from_document(old).layers
    assert (layer.error_weighted, layer.svd_error_weighted, layer.candidates) == (0.18, None, {})
    assert "0.1800" in _printed(report.layer_table(CheckpointReport.from_document(old)))
    del old["layers"][0]["error_weighted"]
    with pytest.raises(
        CheckpointError, match=r"lpcompress\.json: the record of a layer is incomplete .*error_weighted"
    ):
        CheckpointReport.from_document(old)


WRONG = (None, True, -1, 0.5, 1e400, float("nan"), 10**400, "x", "[/x]", "x" * 5000, [], [None], {}, {"a": 1}, [[1]])


def damaged(document):
    """Yield the document with each of its values in turn replaced by each wrong one, or left out."""
    for key in document:
        yield key, {k: v for k, v in document.items() if k != key}
        for value in WRONG:
            yield key, document | {key: value}
    for key in document["layers"][0]:
        first, *rest = document["layers"]
        yield key, document | {"layers": [{k: v for k, v in first.items() if k != key}, *rest]}
        for value in WRONG:
            yield key, document | {"layers": [first | {key: value}, *rest]}
    for value in WRONG:
        yield "", value


def test_a_damaged_report_is_one_sentence_or_can_be_shown(done, tmp_path):
    calibration = {"source": "a file", "texts": 3}
    scored = of(replace(done, calibration=calibration), glue={"tasks": {}})
    refused = set()
    for key, document in damaged(json.loads(presentation.as_json(scored))):
        (tmp_path / "lpcompress.json").write_text(json.dumps(document))
        try:
            found = CheckpointReport.read(tmp_path)
        except CheckpointError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
            assert str(error).startswith(str(tmp_path / "lpcompress.json")) and "Delete the file to" in str(error)
            refused.add(key)
            continue
        if found:
            Console(file=StringIO(), markup=False).print(report.layer_table(found))
            replace(found, glue=None).write(tmp_path)
            (tmp_path / "README.md").write_text(model_card(found, "BertModel"), encoding="utf-8")
    assert refused >= {"", "layers", "shape", "error_fro", "ranks", "calibration", "file_bytes_before", "warnings", "p"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model": "\\ud800"}',
        b'{"seed": ' + b"1" * 5000 + b"}",
        b"{}{}",
        b"\0",
    ],
)
def test_a_report_that_is_not_json_is_one_sentence(tmp_path, content):
    (tmp_path / "lpcompress.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"lpcompress\.json: must be JSON\. Got [^\n]*Delete the file"):
        CheckpointReport.read(tmp_path)


def test_a_report_that_is_no_file_is_one_sentence(tmp_path):
    assert CheckpointReport.read(None) is CheckpointReport.read(tmp_path) is None
    (tmp_path / "lpcompress.json").mkdir()
    with pytest.raises(CheckpointError, match=r"lpcompress\.json cannot be read: Is a directory"):
        CheckpointReport.read(tmp_path)


@pytest.mark.parametrize(
    "old", sorted(Path("tests/data/format-1").glob("*/lpcompress.json")), ids=lambda it: it.parent.name
)
def test_the_reports_of_format_1_are_read(old):
    assert CheckpointReport.read(old.parent).layers


def test_a_role_without_a_noun_is_called_by_its_name(done):
    layers = [replace(done.layers[0], kind="conv3d") for _ in range(2)]
    assert "with 2 conv3ds replaced by" in model_card(of(replace(done, layers=layers)), "BertModel")


def test_without_the_module_resource_no_memory_is_reported(done, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert of(done).peak_rss_bytes == 0


def test_the_card_states_the_size_of_what_was_saved(done):
    assert "take 1.2 MB now" in model_card(of(done, after=1_234_567), "BertModel")


def _printed(table):
    console = Console(file=StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()


def test_the_table_shows_the_error_and_that_of_svd(summary):
    text = _printed(report.layer_table(summary))
    for part in (
        "30,522 x 384",
        "adaptive, p=1",
        "323, 367, 245, 112",
        "28.0%",
        "0.1800",
        "0.4100",
        "90.9 MB -> 77.7 MB",
        "tried adaptive 0.1800, sparse 0.2000",
    ):
        assert part in text


def test_the_error_of_a_calibrated_layer_is_that_of_its_outputs(done):
    layer = replace(done.layers[0], error_calibrated=0.0123, svd_error_calibrated=0.0456)
    linear = replace(layer, kind="linear", name="layer.0.dense")
    done = replace(done, layers=[done.layers[0], linear], calibration={"source": "glue:mrpc", "texts": 512})
    summary = of(done, model="org/minilm")
    card, text = model_card(summary, "BertModel"), _printed(report.layer_table(summary))
    for shown in ("0.1800", "0.4100", "0.0123", "0.0456", "of the outputs on the calibration text"):
        assert shown in card and shown in text
    assert "512 unlabelled texts (glue:mrpc) were used for calibration. The model was not fine-tuned." in card
    assert "No data was used" not in card


def test_layers_that_stay_dense_are_counted(done):
    summary = of(replace(done, skipped={"a": "x", "b": "y"}))
    sentence = "2 of the chosen layers stay dense; lpcompress.json gives the reasons"
    assert sentence in model_card(summary, "BertModel")
    assert sentence in _printed(report.layer_table(summary))


def test_a_size_that_no_svd_fits_is_a_dash(summary):
    summary = replace(summary, layers=[replace(summary.layers[0], svd_error_weighted=None)])
    assert "0.1800 | - |" in model_card(summary, "BertModel")
    assert "0.4100" not in _printed(report.layer_table(summary))


def test_a_dry_run_shows_budgets_and_expected_errors():
    preview = LayerPreview(
        name="embeddings.word_embeddings",
        shape=[30522, 384],
        method="sparse",
        bytes_before=46881792,
        bytes_budget=33754890,
        expected_error=0.0512,
        svd_rank=273,
        row_weights="zipf",
    )
    text = _printed(report.preview_table([preview]))
    for part in ("nothing was written", "46,881,792", "33,754,890", "273", "zipf", "sparse", "0.0512"):
        assert part in text


def test_the_model_card_explains_loading(summary):
    card = model_card(summary, "BertModel")
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == "org/minilm"
    assert yaml.safe_load(head)["library_name"] == "transformers"
    for part in (
        "import lpcompress",
        'BertModel.from_pretrained("minilm-lpcompress")',
        "ignore_mismatched_sizes=True",
        "lpcompress densify",
    ):
        assert part in text


def test_warnings_are_in_the_report_and_on_the_card(done):
    warned = replace(done, warnings=["the 3 sketched layers are a start"])
    summary = of(warned, model="org/minilm")
    assert summary.document()["warnings"] == ["the 3 sketched layers are a start"]
    assert "**Warning:** the 3 sketched layers are a start" in model_card(summary, "BertModel")


def test_the_model_card_of_a_local_model_names_no_path(done, tmp_path):
    summary = of(done, model=str(tmp_path), out=tmp_path / "out")
    card = model_card(summary, "BertModel")
    assert "base_model" not in card
    assert str(tmp_path) not in card


def test_a_long_list_is_cut():
    assert presentation.short_list([1, 2, 3]) == "1, 2, 3"
    assert presentation.short_list(list(range(9))) == "0, 1, 2, 3, 4, 5, ... (9)"


def test_the_report_in_a_checkpoint_names_no_path(done, tmp_path, monkeypatch):
    (tmp_path / "mrpc").mkdir()
    monkeypatch.chdir(tmp_path)
    home = str(tmp_path)
    scores = {"model": f"{home}/mrpc", "settings": {"data": "C:\\\\glue", "row_weights": f"{home}/counts.txt"}}
    summary = of(done, model="mrpc", out=tmp_path / "small", glue={"tasks": {"mrpc": scores}, "baseline": "org/mrpc"})
    summary.write(tmp_path)
    text = (tmp_path / "lpcompress.json").read_text()
    assert home not in text
    document = json.loads(text)
    assert (document["model"], document["out"]) == ("./mrpc", "./small")
    settings = {"data": "./glue", "row_weights": "./counts.txt"}
    assert document["glue"] == {"tasks": {"mrpc": {"model": "./mrpc", "settings": settings}}, "baseline": "org/mrpc"}
    again = CheckpointReport.read(tmp_path)
    monkeypatch.chdir("/")
    card = model_card(again, "BertModel")  # as after finetune, which reads the report
    assert "# small\n" in card and "`mrpc` with" in card and "base_model" not in card
    monkeypatch.chdir(tmp_path)
    printed = json.loads(presentation.as_json(summary))
    assert printed == {key: value for key, value in document.items() if key != "digests"}
