"""Calibration text that cannot be read, and models that cannot be run on it: one sentence before the work."""

import json
import time

import pytest
import torch
import transformers

from lpcompress.compression import calibration, texts
from lpcompress.compression.moments import moments_of
from lpcompress.compression.whole_model import compress
from lpcompress.errors import LpCompressError
from lpcompress.progress import silent
from lpcompress.surgery.finding import find_layers

T5 = {"vocab_size": 200, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 8}
TEXTS = ["word1 word2 word3", "word4 word5"]


def calibrated(model, tokenizer, texts=TEXTS, **options):
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    options = {"layers": ["linear"], "method": "svd", "ratio": 0.3} | options
    return compress(model, calibration=texts, tokenizer=tokenizer, **options)


def test_a_model_of_images_is_refused_before_the_text_is_read(word_tokenizer, monkeypatch):
    monkeypatch.setattr(calibration, "read_texts", None)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(patch_size=4, **VIT))
    with pytest.raises(
        LpCompressError, match=r"a ViTForImageClassification takes pixel_values\. Set calibration to none"
    ):
        calibrated(model, word_tokenizer)


def test_a_model_that_needs_more_than_text_is_refused(word_tokenizer):
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(decoder_start_token_id=0, **T5))
    sentence = (
        r"a T5ForConditionalGeneration does not take alone\. Set calibration to none\. \(ValueError: You must spec"
    )
    with pytest.raises(LpCompressError, match=sentence):
        calibrated(model, word_tokenizer)


def test_an_embedding_alone_is_calibrated_by_counts_if_the_model_needs_more_than_text(word_tokenizer, caplog):
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(decoder_start_token_id=0, **T5))
    report = calibrated(model, word_tokenizer, layers=["embedding"])
    assert report.layers[0].row_weights == "calibration (texts)"
    assert "Errors of embeddings count alike in all directions: calibration runs texts" in caplog.text


def test_texts_of_a_task_are_its_pairs_from_all_of_the_split(tiny_model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "MAX_TEXTS", 2)
    (tmp_path / "mrpc").mkdir()
    rows = [{"sentence1": f"first {i}", "sentence2": f"second {i}", "label": 0} for i in range(4)]
    (tmp_path / "mrpc" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert texts.read_texts("glue:mrpc", str(tmp_path)) == (
        [("first 0", "second 0"), ("first 2", "second 2")],
        "glue:mrpc",
    )
    model = tiny_model()
    layers = find_layers(model, ["embedding"])
    asked = "glue:mrpc", str(tmp_path), tokenizer(), "zipf", 0, False, silent
    assert calibration.calibrate(model, layers, *asked).counts[3] == 4  # two [SEP] in a pair


def test_texts_of_one_length_run_together_and_their_tokens_are_limited(word_tokenizer, monkeypatch):
    lines = [(f"word{i} " * (1 + i % 3),) for i in range(300)]
    inputs = texts.encode(lines, word_tokenizer, longest=99)
    assert [tuple(each["input_ids"].shape) for each in inputs] == [(100, 1), (100, 2), (100, 3)]
    assert inputs[1]["input_ids"][0].tolist() == [word_tokenizer.convert_tokens_to_ids("word1")] * 2
    monkeypatch.setattr(texts, "TOTAL_TOKENS", 300)  # half of them
    monkeypatch.setattr(texts, "BATCH_TOKENS", 120)
    inputs = texts.encode(lines, word_tokenizer, longest=99)
    assert sum(len(each["input_ids"]) for each in inputs) == 150
    assert all(each["input_ids"].numel() <= 120 and (each["attention_mask"] == 1).all() for each in inputs)
    assert {int(each["input_ids"].max()) for each in inputs} > {word_tokenizer.convert_tokens_to_ids("word298")}
    assert [tuple(each["input_ids"].shape) for each in texts.encode(lines[2:3], word_tokenizer, longest=2)] == [(1, 2)]


def test_directions_of_an_embedding_are_doubted_and_errors_are_told_as_before(tiny_model, word_tokenizer):
    model = tiny_model()
    layers = find_layers(model, ["embedding"])
    [(name, _)] = layers.items()
    for text in ("drawn", TEXTS):
        measured = calibration.calibrate(model, layers, text, "hub", word_tokenizer, "zipf", 0, False, silent)
        values = torch.linalg.eigvalsh(measured.moments[name])
        assert float(values.mean()) == pytest.approx(1) and float(values[0]) >= 0.499 and float(values[-1]) > 1.5
        assert measured.slopes == {}
    [record] = calibrated(model, word_tokenizer, layers=["embedding"], method="coded").layers
    assert record.error_calibrated is None and record.error_weighted > 0


def test_outputs_of_a_shape_of_their_own_have_no_slopes(tiny_model, word_tokenizer):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    made = transformers.BertForQuestionAnswering(transformers.BertConfig(vocab_size=203, **sizes))
    with pytest.raises(LpCompressError, match=r"another shape for every text\. Give ratio"):
        calibrated(made, word_tokenizer, ratio=None, target_size=0.8)
    assert calibrated(made, word_tokenizer).calibration["texts"] == 2


def test_inputs_beyond_the_range_are_refused(tiny_model, ids):
    model = tiny_model()
    layers = find_layers(model, ["*.query"])
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(torch.inf)
    with pytest.raises(
        LpCompressError, match=r"query: its inputs or derivatives on the calibration text are not finite"
    ):
        moments_of(model, layers, [transformers.BatchEncoding({"input_ids": ids})], silent)


def test_a_long_line_is_cut_before_it_is_tokenized(tiny_model, word_tokenizer):
    seen, began = [], time.perf_counter()
    encode = type(word_tokenizer).__call__

    class Counting(type(word_tokenizer)):
        def __call__(self, text, **options):
            seen.append(len(text))
            return encode(self, text, **options)

    word_tokenizer.__class__ = Counting
    calibrated(tiny_model(), word_tokenizer, ["word1 " * 2_500_000], layers=["ffn"])
    assert seen == [texts.MAX_CHARACTERS]
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("[" * 20_000, "every line must be a JSON object with a field 'text'"),
        ('{"text": ' + "9" * 5000 + "}", "every line must be a JSON object"),
        ('"text"', "every line must be a JSON object"),
        ("[1]", "every line must be a JSON object"),
        ('{"text": null}', r"Some entries of t\.jsonl are not text"),
        ('{"text": "rain \\ud800"}', r"calibration t\.jsonl: text 1 holds half a character"),
    ],
)
def test_nonsense_in_jsonl(tmp_path, line, sentence):
    file = tmp_path / "t.jsonl"
    file.write_text(line)
    with pytest.raises(LpCompressError, match=sentence):
        texts.read_texts(str(file))
