"""Models of a given size: bytes, plans and calibration text."""

import json

import pytest
import torch

from lpcompress.checkpoints.files import weight_files
from lpcompress.checkpoints.headers import header_bytes
from lpcompress.compression.texts import MAX_TEXTS, read_texts
from lpcompress.compression.whole_model import compress, preview
from lpcompress.config.plan import METHODS, Plan
from lpcompress.errors import BudgetError, LpCompressError, PlanError
from lpcompress.surgery.sizes import tensor_bytes

WIDE = {"hidden_size": 32, "intermediate_size": 64}


def same_bytes(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"sketch"}))
def test_the_model_has_the_requested_size(tiny_model, ids, method):
    dense = tiny_model(**WIDE)
    before = tensor_bytes(dense)
    compress(dense, target_size=0.7, layers=["all"], method=method)
    assert 0.64 < tensor_bytes(dense) / before <= 0.7  # in small matrices a rank is a coarse step
    assert torch.isfinite(dense(ids).logits).all()


def test_a_tied_embedding_counts_once(tiny_model):
    dense = tiny_model(head="lm", **WIDE)
    before = sum(p.numel() * 4 for p in dense.parameters()) + 8 * 40  # plus the position ids
    compress(dense, target_size=0.7, layers=["all"], method="coded")
    assert before * 0.65 < tensor_bytes(dense) <= before * 0.7


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"sketch"}))
def test_the_weight_file_is_no_larger_than_requested(tiny_model, tmp_path, method):
    dense, size = tiny_model(hidden_size=128, intermediate_size=256), 700_000
    assert tensor_bytes(dense) > 1.3 * size
    compress(dense, max_bytes=size, layers=["all"], method=method)
    dense.save_pretrained(tmp_path)
    assert 0.95 * size < (tmp_path / "model.safetensors").stat().st_size <= size


@pytest.mark.parametrize("max_shard_size", [100_000, 300_000])
@pytest.mark.parametrize("method", ["svd", "coded"])
def test_weight_files_are_together_no_larger_than_requested(tiny_model, tmp_path, method, max_shard_size):
    dense, size = tiny_model(hidden_size=128, intermediate_size=256), 700_000
    options = {"max_bytes": size, "layers": ["all"], "method": method}
    whole, parts = (preview(dense, max_shard_size=shard, **options).layers for shard in (None, max_shard_size))
    assert parts != whole  # the same room is left in a plan
    compress(dense, max_shard_size=max_shard_size, **options)
    dense.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    files = weight_files(tmp_path)
    assert len(files) > 2 and 0.8 * size < sum(file.stat().st_size for file in files) <= size


def test_names_that_differ_between_model_and_files_are_counted_twice(tiny_model):
    model = tiny_model()
    once = header_bytes(model, [])
    model._weight_conversions = ["a conversion"]
    assert header_bytes(model, []) > 1.3 * once


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "xlnet"])
@pytest.mark.parametrize(
    "options",
    [
        {"target_size": 0.7, "method": "adaptive"},
        {"ratio": 0.9, "method": "svd"},  # layers that are too small for this ratio stay dense
        {"ratio": 0.5, "layers": ["linear"], "method": "sketch"},
    ],
)
@pytest.mark.filterwarnings("ignore::lpcompress.errors.NeedsTrainingWarning")
def test_a_plan_is_saved_read_applied_and_its_model_reloaded(tiny_model, tmp_path, ids, architecture, options):
    first, second = tiny_model(architecture), tiny_model(architecture)
    options = {"layers": ["all"], "row_weights": "uniform"} | options
    file = tmp_path / "plan.yaml"
    file.write_text(preview(first, Plan(**options)).plan.to_yaml())
    compress(first, Plan.from_yaml(file))
    compress(second, **options)
    assert same_bytes(first, second)
    first.save_pretrained(tmp_path / "out")
    again = type(first).from_pretrained(tmp_path / "out").eval()
    assert torch.equal(again(ids).logits, first.eval()(ids).logits)


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_saved_plan_gives_the_same_bytes(tiny_model, tmp_path, word_tokenizer, calibrated):
    options = {"layers": ["all"], "target_size": 0.6}
    if calibrated:
        text = tmp_path / "text.txt"
        text.write_text("word1 word2\nword3 word4 word5\n")
        options["calibration"] = str(text)
    first, second, third = (tiny_model(**WIDE, num_hidden_layers=1) for _ in range(3))
    plan = preview(first, Plan(**options), tokenizer=word_tokenizer).plan
    file = tmp_path / "plan.yaml"
    file.write_text(plan.to_yaml())
    read = Plan.from_yaml(file)
    assert read == plan and read.target_size is None and read.allocation
    compress(second, tokenizer=word_tokenizer, **read.model_dump())
    report = compress(third, tokenizer=word_tokenizer, **options)
    assert {layer.name for layer in report.layers} == set(read.allocation)
    assert same_bytes(second, third)


def test_impossible_sizes_are_refused(tiny_model):
    dense = tiny_model(**WIDE)
    with pytest.raises(LpCompressError, match="smallest forms need"):
        compress(dense, target_size=0.01, layers=["all"])
    with pytest.raises(LpCompressError, match="Ask for a smaller model"):
        compress(dense, max_bytes=2 * tensor_bytes(dense), layers=["all"])
    with pytest.raises(LpCompressError, match="layers of method 'sketch' cannot share a model size"):
        compress(dense, target_size=0.7, layers=["linear"], method="sketch")
    with pytest.raises(LpCompressError, match="ratio and target_size must not be given together"):
        compress(dense, ratio=0.3, target_size=0.7)
    with pytest.raises(LpCompressError, match="allocation names nowhere, which is not among the chosen layers"):
        compress(dense, allocation={"nowhere": {"method": "svd", "ratio": 0.5}})


def test_a_layer_that_the_output_ignores_gives_its_bytes_to_the_others(tiny_model, word_tokenizer):
    dense = tiny_model(**WIDE)
    ignored, kept = (f"bert.encoder.layer.{i}.intermediate.dense" for i in (0, 1))
    with torch.no_grad():
        dense.get_submodule("bert.encoder.layer.0.output.dense").weight.zero_()
    options = {"layers": [ignored, kept], "target_size": 0.95, "method": "svd", "tokenizer": word_tokenizer}
    [*layers] = preview(dense, calibration=["word1 word2", "word3 word4 word5"], **options).layers
    sizes = {layer.name: layer.bytes_budget for layer in layers}
    assert ignored in sizes and sizes[ignored] < sizes.get(kept, 1 << 30)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("no.txt", None, "cannot be read: No such file"),
        ("empty.txt", "\n", "empty.txt must hold text, one per line. It holds none."),
        ("bad.jsonl", '{"txt": "a"}\n', "every line must be a JSON object with a field 'text'."),
        ("number.jsonl", '{"text": 5}\n', "Some entries of number.jsonl are not text."),
    ],
)
def test_text_that_cannot_be_read_is_named(tiny_model, word_tokenizer, tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(LpCompressError) as refused:
        compress(tiny_model(), calibration=str(tmp_path / name), tokenizer=word_tokenizer)
    assert sentence in str(refused.value)


def test_only_the_texts_that_are_used_are_read(tmp_path):
    lines = [json.dumps({"text": f"a\u2028b {i}"}, ensure_ascii=False) for i in range(MAX_TEXTS)]
    file = tmp_path / "text.jsonl"
    file.write_text("\ufeff" + "\n\n".join([*lines, "this line is never read"]), encoding="utf-8")
    texts, name = read_texts(str(file))
    assert (len(texts), texts[0], name) == (MAX_TEXTS, ("a\u2028b 0",), "text.jsonl")


def test_calibration_on_a_task_uses_and_reports_its_training_texts(tiny_model, word_tokenizer, glue_dir, tmp_path):
    rows = (glue_dir / "mrpc" / "validation.jsonl").read_text()
    (tmp_path / "mrpc").mkdir()
    (tmp_path / "mrpc" / "train.jsonl").write_text(rows)
    options = {"tokenizer": word_tokenizer, "data": str(tmp_path), "layers": ["linear"], "ratio": 0.5, "method": "svd"}
    done = compress(tiny_model(), calibration="glue:mrpc", **options)
    assert done.calibration | {"digest": ""} == {"source": "glue:mrpc", "texts": len(rows.splitlines()), "digest": ""}
    assert all(layer.error_calibrated < layer.svd_error_calibrated for layer in done.layers)
    with pytest.raises(PlanError, match="must name one task, such as glue:mrpc"):
        compress(tiny_model(), calibration="glue:mrpc,rte", **options)


def test_calibration_counts_tokens(tiny_model, word_tokenizer):
    [layer] = compress(tiny_model(), calibration=["word7 word7 word9"], tokenizer=word_tokenizer).layers
    assert layer.row_weights == "calibration (texts)"
    with pytest.raises(LpCompressError, match="calibration is for p = 2"):
        compress(tiny_model(), calibration=["word7"], tokenizer=word_tokenizer, p=1.0)


def test_a_size_below_that_of_the_file_s_header_is_refused(tiny_model):
    with pytest.raises(
        BudgetError, match=r"max_bytes must be more than the [\d,]+ bytes that names, sizes .* Got 100\."
    ):
        compress(tiny_model(), max_bytes=100, layers=["all"])
