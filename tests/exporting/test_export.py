"""A checkpoint becomes an ONNX file that gives the same outputs, with its codes as integers."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from lpcompress.checkpoints import loading, saving
from lpcompress.compression.whole_model import compress
from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.exporting import checking, export, recording

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture
def small(tiny_model, word_tokenizer, tmp_path):
    """A function (architecture, head, **plan) -> the directory of a compressed checkpoint."""

    def make(architecture="bert", head="classifier", dtype=torch.float32, **plan):
        model = tiny_model(architecture, head).to(dtype)
        plan = {"method": "coded", "ratio": 0.9, "layers": ["all"], "row_weights": "uniform"} | plan
        with warnings.catch_warnings(action="ignore"):
            compress(model, **plan)
        saving.save(model, word_tokenizer, tmp_path / "small")
        return tmp_path / "small"

    return make


def outputs(directory, inputs):
    session = onnxruntime.InferenceSession(str(directory / "model.onnx"))
    wanted = {each.name for each in session.get_inputs()}
    return session.run(None, {name: array for name, array in inputs.items() if name in wanted})


def padded(rows, length):
    ids = torch.randint(6, 200, (rows, length), generator=torch.Generator().manual_seed(1)).numpy()
    mask = np.ones_like(ids)
    ids[-1, length // 2 :], mask[-1, length // 2 :] = 0, 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def compare(source, done, out):
    """Assert that the graph gives the outputs of the checkpoint for numbers of rows and tokens never seen before."""
    model, _ = loading.load(str(source))
    for rows, length in ((1, 3), (4, 30)):
        inputs = padded(rows, length)
        with torch.no_grad():
            expected = model.eval()(**{name: torch.from_numpy(inputs[name]) for name in done.inputs})
        np.testing.assert_allclose(outputs(out, inputs)[0], expected[0].numpy(), atol=1e-5)
    assert done.difference.rows == 9 and done.difference.largest < 1e-4


def test_a_directory_of_sentence_transformers(small, tmp_path):
    source = small("bert", "base")
    beside = {"modules.json": "[]", "1_Pooling/config.json": "{}", "LICENSE": "free", "sentence_bert_config.json": "{}"}
    beside["config_sentence_transformers.json"] = '{"prompts": {"query": "find: "}}'
    for name, text in beside.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    out = tmp_path / "out"
    done = export.export(source, out)
    compare(source, done, out)
    assert done.outputs == ["last_hidden_state", "pooler_output"]
    assert {name: (out / name).read_text() for name in beside} == beside and (out / "tokenizer.json").is_file()
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config and config["architectures"] == ["BertModel"]

    graph = onnx.load(out / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert {domain.domain for domain in graph.opset_import} <= {"", "ai.onnx"} and not graph.functions
    weights = {each.name: each for each in graph.graph.initializer}
    tables = {kind: weights.get(f"embeddings.word_embeddings.{kind}") for kind in ("pairs", "singles", "wide")}
    assert sum(table.dims[0] for table in tables.values() if table) == 203
    assert all(tables[kind].data_type == onnx.TensorProto.UINT8 for kind in ("pairs", "singles") if tables[kind])
    assert not any("stream" in name for name in weights)
    assert str(Path(torch.__file__).parent).encode() not in (out / "model.onnx").read_bytes()
    assert done.integer_bytes >= 203 * 5 and done.coded_bytes > 0
    assert done.file_bytes_after == (out / "model.onnx").stat().st_size
    table = export.export_table(done)
    assert {"model.onnx", "the same codes in the checkpoint"} <= {cell.strip() for cell in table.columns[0].cells}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "head", "plan"),
    [
        ("bert", "classifier", {"method": "messi", "layers": ["embedding"]}),
        ("roberta", "lm", {}),
        ("distilbert", "base", {"method": "sparse"}),
        ("xlnet", "classifier", {}),
    ],
)
def test_other_heads_and_forms(small, tmp_path, architecture, head, plan):
    source = small(architecture, head, **plan)
    done = export.export(source, tmp_path / "out")
    compare(source, done, tmp_path / "out")
    assert done.outputs == (["last_hidden_state"] if head == "base" else ["logits"])


@pytest.mark.slow
def test_int8_products_are_near(small, tmp_path):
    source = small(layers=["embedding"])
    done = export.export(source, tmp_path / "out", int8=True)
    kinds = [node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node]
    assert kinds.count("MatMulInteger") == 12
    assert 0 < done.difference.moved < checking.MOVED


@pytest.mark.slow
def test_half_precision_is_exported_in_single(small, tmp_path):
    done = export.export(small(dtype=torch.bfloat16), tmp_path / "out")
    assert done.difference.largest < 1e-4


def test_wrong_graph_is_refused_and_nothing_is_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "write", lambda model, inputs, outputs, file: file.touch())
    monkeypatch.setattr(checking, "run", lambda file, inputs: {"logits": torch.zeros(len(inputs["input_ids"]), 2)})
    with pytest.raises(CheckpointError, match=r"other outputs than the model: .* Please report this model"):
        export.export(small(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_foreign_directory_is_refused(small, tmp_path):
    source, out = small(), tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match="exists"):
        export.export(source, out)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        export.export(source, out, overwrite=True)
    assert [each.name for each in out.iterdir()] == ["thesis.tex"]


def test_missing_packages_are_named(small, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(LpCompressError, match=r'Not installed: no_such_package. Run pip install "lpcompress\[onnx\]"'):
        export.export(small(), tmp_path / "out")
