"""Token frequencies estimated from the tokenizers of the four architectures."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from lpcompress.compression.priors import (
    RARE,
    SPECIAL_SHARE,
    SYMBOL_RANK,
    SYMBOLS,
    UNUSED,
    exponent_for,
    row_weights,
    share_of_rank,
)
from lpcompress.errors import LpCompressError

NAMES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
WORDPIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "a", "é", "the", "of", "##ing", "zebra"]
WORDPIECES += ["[unused1]", "##s", "##é", "中", ".", "x", "##x", "7", "##!"]


def wordpiece():
    vocab = {piece: i for i, piece in enumerate(WORDPIECES)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordPiece(vocab, unk_token="[UNK]")), **NAMES)


def bpe(order):
    """Return a byte-level BPE with the merges th, Ġth, the, Ġthe, in, ing, whose merged pieces have ids in `order`."""
    merges = [("t", "h"), ("Ġ", "th"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("in", "g")]
    merged = ["".join(pair) for pair in merges]
    pieces = ["<s>", "<pad>", *"thegin,a", "Ġ", "Ġa", "Ã", *(merged[i] for i in order)]
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, merges)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), bos_token="<s>", pad_token="<pad>")
    return tokenizer, merged


def unigram():
    pieces = [("<pad>", 0.0), ("<unk>", 0.0), ("<sep>", 0.0), ("▁rare", -9.0), ("▁the", -2.0), ("s", -4.0), ("▁", -3.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


def by_piece(tokenizer, weights):
    return {piece: float(weights.values[i]) for piece, i in tokenizer.get_vocab().items()}


def zipf(tokenizer, spare=0, exponent=1.0):
    return row_weights("zipf", len(tokenizer.get_vocab()) + spare, tokenizer, exponent)


def test_wordpiece_goes_by_id():
    weights = zipf(wordpiece(), spare=3)
    assert weights.source == "zipf (WordPiece ids)"
    assert weights.values.shape == (len(WORDPIECES) + 3,)
    of = by_piece(wordpiece(), weights)
    assert {of[name] for name in NAMES.values()} == {SPECIAL_SHARE}
    assert SPECIAL_SHARE > of["the"] > of["of"] > of["##ing"] > of["zebra"]
    assert {of[it] for it in ("x", "##x")} == {share_of_rank(SYMBOL_RANK)}
    assert share_of_rank(SYMBOL_RANK) < of["7"] < of["!"] < of["##s"] < of["a"] < of["."] == share_of_rank(0)
    assert of["##!"] == of["[unused0]"]  # words end at punctuation
    assert of["é"] == of["##é"] == of["中"] == pytest.approx(of["zebra"] * RARE)
    assert of["[unused0]"] == of["[unused1]"] == pytest.approx(of["zebra"] * UNUSED)
    assert torch.equal(weights.values[-3:], torch.full((3,), of["[unused0]"], dtype=torch.float64))  # no such tokens


def test_unused_ids_and_characters_do_not_lower_the_rank_of_words():
    vocab = {piece: i for i, piece in enumerate(p for p in WORDPIECES if len(p.strip("#")) > 1 and "unused" not in p)}
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordPiece(vocab, unk_token="[UNK]")), **NAMES)
    with_them, without = (by_piece(each, zipf(each)) for each in (wordpiece(), bare))
    assert {piece: with_them[piece] for piece in without} == without


def test_the_embedding_may_have_fewer_rows_than_there_are_tokens():
    assert row_weights("zipf", 12, wordpiece(), 1.0).values.shape == (12,)


def test_bpe_goes_by_merge():
    tokenizer, merged = bpe(range(6))
    weights = zipf(tokenizer)
    assert weights.source == "zipf (BPE merges)"
    of = by_piece(tokenizer, weights)
    shares = [of[piece] for piece in merged]
    assert shares == sorted(shares, reverse=True) and len(set(shares)) == 6
    assert of["<s>"] == of["<pad>"] == SPECIAL_SHARE
    assert of["t"] == of["g"] == share_of_rank(SYMBOL_RANK)
    assert of["Ġa"] == share_of_rank(SYMBOLS["BPE"]["Ġa"]) > of["a"] == of["t"] < of[","]
    assert of["Ã"] == pytest.approx(min(shares) * RARE)  # a byte of other scripts


def test_ids_sorted_by_frequency_override_merges():
    order = (1, 0, 3, 2, 5, 4)  # roughly that of the merges
    tokenizer, merged = bpe(order)
    of = by_piece(tokenizer, zipf(tokenizer))
    assert sorted(merged, key=of.get, reverse=True) == [merged[i] for i in order]


@pytest.mark.parametrize("order", [(5, 4, 3, 2, 1, 0), (3, 0, 5, 2, 4, 1)])
def test_merges_override_ids_that_contradict_them(order):
    tokenizer, merged = bpe(order)
    of = by_piece(tokenizer, zipf(tokenizer))
    assert sorted(merged, key=of.get, reverse=True) == merged


def test_unigram_goes_by_log_probability():
    weights = zipf(unigram(), spare=1)
    assert weights.source == "zipf (unigram log-probabilities)"
    of = by_piece(unigram(), weights)
    for piece, score in (("▁the", -2.0), ("▁", -3.0), ("s", -4.0), ("▁rare", -9.0)):
        assert of[piece] == pytest.approx(torch.tensor(score).exp().item())
    assert of["<pad>"] == of["<unk>"] == SPECIAL_SHARE
    assert of["<sep>"] == pytest.approx(of["▁rare"] * UNUSED)  # a control piece that is not a special token
    assert float(weights.values[-1]) == of["<sep>"]


@pytest.mark.parametrize("tokenizer", [wordpiece(), bpe(range(6))[0], unigram()])
def test_the_exponent_is_a_power_of_the_share(tokenizer):
    shares = zipf(tokenizer).values
    assert torch.allclose(zipf(tokenizer, exponent=0.5).values, shares.sqrt())
    assert torch.equal(zipf(tokenizer, exponent=0.0).values, torch.ones_like(shares))


def test_the_exponent_rises_with_the_ratio():
    exponents = [exponent_for(ratio) for ratio in (0.1, 0.28, 0.8, 0.9, 0.99)]
    assert exponents[:3] == [0.5] * 3
    assert exponents == sorted(exponents) and exponents[-1] <= 1


class Slow:
    """A tokenizer without a fast backend."""


@pytest.mark.parametrize("tokenizer", [None, Slow()])
def test_an_unknown_tokenizer_gives_uniform_weights_and_a_source_that_says_so(tokenizer):
    weights = row_weights("zipf", 5, tokenizer, 0.5)
    assert weights.values is None
    assert weights.source == "uniform (the tokenizer says nothing about frequencies)"


def test_uniform():
    weights = row_weights("uniform", 17, wordpiece(), 0.5)
    assert (weights.values, weights.source) == (None, "uniform")


@pytest.mark.parametrize("text", ["[3, 0, 7.5, 1]", " [3,0,\n7.5,1]\n", "3\n0\n7.5\n1\n", "3 0 7.5 1"])
def test_counts_from_a_file(tmp_path, text):
    file = tmp_path / "counts.txt"
    file.write_text(text)
    weights = row_weights(str(file), 4, None, 0.5)
    assert weights.source == "counts (counts.txt)"
    assert torch.allclose(weights.values, torch.tensor([3.5, 0.5, 8.0, 1.5], dtype=torch.float64).sqrt())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2, 3]", "must hold 4 numbers, one for each row of the embedding. Got 3."),
        ("", "must hold 4 numbers, one for each row of the embedding. Got 0."),
        ("[[1, 2], [3, 4]]", "Got a list of shape (2, 2)."),
        ("1\n2\n-3\n4\n", "token counts must be non-negative and at most 1e+18. Got -3 for token 2."),
        ("[1, 2, 3, NaN]", "Got nan for token 3."),
        ("inf 1 2 3", "Got inf for token 0."),
        ("the 3\n", "cannot be read as one"),
        ("[1, 2,", "cannot be read as one"),
        ('["the", "of", "a", "b"]', "cannot be read as one"),
        ("[null, 1, 2, 3]", "cannot be read as one"),
        ("[" * 10_000, "cannot be read as one"),
        ("[1, 2, 3, " + "9" * 5000 + "]", "cannot be read as one"),
        ("[1, 2, 3, " + "9" * 400 + "]", "cannot be read as one"),
        ("the" * 10_000, "cannot be read as one"),
        ("1 2 3 1e300", "at most 1e+18. Got 1e+300 for token 3"),
        ('[{"the": 1}]', "cannot be read as one"),
        ("[[1], [2, 3], 4, 5]", "cannot be read as one"),
    ],
)
def test_an_invalid_file_of_counts_is_refused(tmp_path, text, sentence):
    file = tmp_path / "counts.txt"
    file.write_text(text)
    with pytest.raises(LpCompressError) as refused:
        row_weights(str(file), 4, None, 0.5)
    assert str(file) in str(refused.value)
    assert sentence in str(refused.value)


def test_a_missing_file_of_counts_is_named(tmp_path):
    with pytest.raises(LpCompressError, match=r"must be 'zipf', 'uniform' or a file of token counts.*none\.txt"):
        row_weights(str(tmp_path / "none.txt"), 4, None, 0.5)


def test_counts_may_be_a_long_json_list(tmp_path):
    file = tmp_path / "counts.json"
    file.write_text(json.dumps(list(range(5000))))
    assert row_weights(str(file), 5000, None, 1.0).values.argmax() == 4999
