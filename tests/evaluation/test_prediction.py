"""Logits of sorted, padded batches against one row at a time, on every architecture."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from lpcompress.errors import LpCompressError
from lpcompress.evaluation import prediction
from lpcompress.evaluation.prediction import encode, logits
from lpcompress.glue.data import Rows, load_rows
from lpcompress.glue.tasks import TASKS
from lpcompress.processes import Workers
from lpcompress.progress import Progress

ARCHITECTURES = ("bert", "distilbert", "roberta", "xlnet")


@pytest.fixture
def rows(glue_dir):
    return load_rows(TASKS["mrpc"], "validation", glue_dir)


def one_by_one(model, tokenizer, rows):
    """The logits of each row alone, without padding."""
    pairs = zip(*rows.texts, strict=True)
    inputs = (tokenizer(*pair, truncation=True, return_tensors="pt") for pair in pairs)
    with torch.inference_mode():
        return np.concatenate([model(**each).logits.numpy() for each in inputs])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_each_row_alone(architecture, tiny_classifier, tokenizer, rows):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier("mrpc", architecture)).eval()
    words = tokenizer(architecture)
    found = logits(model, encode(words, rows, batch_size=5), Workers("cpu"))
    assert found.dtype == np.float32
    expected = one_by_one(model, words, rows)
    assert np.ptp(expected[:, 0]) > 1e-3  # rows differ, so a wrong order would show
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("summary", ["last", "mean"])
def test_a_head_that_reads_padding_gets_none(summary, tiny_classifier, tokenizer, rows):
    directory = tiny_classifier("mrpc", "xlnet", summary_type=summary)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    encoded = encode(tokenizer("xlnet"), rows, batch_size=5)
    found = logits(model, encoded, Workers("cpu"))
    np.testing.assert_allclose(found, one_by_one(model, tokenizer("xlnet"), rows), atol=2e-5)
    assert any(np.ptp(np.diff(encoded.offsets)[batch]) for batch in encoded.batches())  # the default mixes lengths


def test_processes_share_the_batches_and_lose_no_row(tiny_classifier, tokenizer, rows, monkeypatch):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier("mrpc")).eval()
    encoded = encode(tokenizer(), rows, batch_size=3)
    alone = logits(model, encoded, Workers("cpu"))
    parts = {}

    def worker(rank, gather):
        one = Workers("cpu")
        one.rank, one.count = rank, 2
        monkeypatch.setattr(one, "together", lambda work: work())
        monkeypatch.setattr(one, "gather", gather)
        return one

    for rank in (0, 1):
        with pytest.raises(InterruptedError):
            logits(model, encoded, worker(rank, lambda part, rank=rank: parts.setdefault(rank, part) and _stop()))
    assert sum(map(len, parts.values())) == len(encoded.batches())
    assert np.array_equal(logits(model, encoded, worker(0, lambda _: [parts[0], parts[1]])), alone)


def _stop():
    raise InterruptedError


def test_long_rows_come_first_and_batches_hold_rows_of_like_length(tokenizer, rows):
    encoded = encode(tokenizer(), rows, batch_size=4)
    lengths = [np.diff(encoded.offsets)[batch] for batch in encoded.batches()]
    assert sorted(np.concatenate(encoded.batches())) == list(range(len(rows)))
    assert np.all(np.diff(np.concatenate(lengths)) <= 0)
    padded = sum(len(part) * part.max() for part in lengths)
    assert padded < len(rows) * np.diff(encoded.offsets).max()


def test_tokenising_in_chunks_gives_the_same_ids(tokenizer, rows, monkeypatch):
    whole = encode(tokenizer(), rows)
    monkeypatch.setattr(prediction, "CHUNK", 3)
    parts = encode(tokenizer(), rows)
    assert np.array_equal(whole.offsets, parts.offsets)
    assert all(np.array_equal(whole.features[name], parts.features[name]) for name in whole.features)


def test_token_types_are_present_if_the_tokenizer_returns_them(tokenizer, rows):
    assert "token_type_ids" in encode(tokenizer("bert"), rows).features
    assert "token_type_ids" not in encode(tokenizer("roberta"), rows).features


def test_a_feature_that_the_model_does_not_know_is_left_out(tiny_classifier, tokenizer, rows):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier("mrpc", "distilbert")).eval()
    found = logits(model, encode(tokenizer("bert"), rows), Workers("cpu"))
    expected = logits(model, encode(tokenizer("distilbert"), rows), Workers("cpu"))
    assert np.array_equal(found, expected)


def test_a_text_is_truncated_to_the_given_length(tokenizer):
    long = Rows(TASKS["cola"], "validation", (["good " * 500, "good"],), np.array([1, 1]), "f")
    assert np.diff(encode(tokenizer(), long, max_length=20).offsets).tolist() == [20, 3]
    assert np.diff(encode(tokenizer(), long).offsets).max() == tokenizer().model_max_length


def test_a_tokenizer_without_padding_is_refused(tokenizer, rows):
    words = tokenizer()
    words.pad_token = None
    with pytest.raises(LpCompressError, match=r"has no padding token.*tokenizer.pad_token = tokenizer.eos_token"):
        encode(words, rows)


def test_progress_counts_batches(tiny_classifier, tokenizer, rows):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier("mrpc")).eval()
    encoded, told = encode(tokenizer(), rows, batch_size=5), []
    logits(model, encoded, Workers("cpu"), Progress(lambda *each: told.append(each)), "dense")
    assert told == [("dense", i + 1, len(encoded.batches())) for i in range(len(encoded.batches()))]
