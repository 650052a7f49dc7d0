"""Text drawn from the tokenizer's statistics."""

import pytest
import torch
import transformers

from lpcompress.compression import drawn
from lpcompress.compression.calibration import calibrate, drawn_texts, spread_out
from lpcompress.compression.moments import run
from lpcompress.compression.priors import RowWeights, row_weights
from lpcompress.progress import silent
from lpcompress.surgery import finding

LONGEST = 512


def inputs_of(tokenizer, prior, seed=0, longest=LONGEST):
    return [each for inputs in drawn.draw(tokenizer, prior, len(tokenizer), seed, longest) for each in inputs]


def ids_of(inputs):
    return [each["input_ids"] for each in inputs]


def test_it_has_the_frequencies_of_the_prior_and_the_tokenizers_special_tokens(word_tokenizer):
    ordinary = [i for i in range(len(word_tokenizer)) if i not in word_tokenizer.all_special_ids]
    shares = torch.zeros(len(word_tokenizer), dtype=torch.float64)
    shares[ordinary[:2]] = torch.tensor([3.0, 1.0], dtype=torch.float64)
    inputs = inputs_of(word_tokenizer, RowWeights(shares, "counts"))
    assert sum(map(len, ids_of(inputs))) == drawn.TEXTS
    ids = torch.cat([each.flatten() for each in ids_of(inputs)])
    often, seldom = (int((ids == i).sum()) for i in ordinary[:2])
    assert often + seldom + int(torch.isin(ids, torch.tensor(word_tokenizer.all_special_ids)).sum()) == len(ids)
    assert often / (often + seldom) == pytest.approx(0.75, abs=0.03)


def test_it_follows_the_seed(word_tokenizer):
    prior = row_weights("zipf", len(word_tokenizer), word_tokenizer, 1.0)
    first, again, other = (ids_of(inputs_of(word_tokenizer, prior, seed)) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again)) and not any(map(torch.equal, first, other))


def test_texts_have_all_lengths_but_no_more_than_the_model_takes(word_tokenizer):
    uniform = RowWeights(None, "uniform")
    lengths = [each.shape[1] for each in ids_of(inputs_of(word_tokenizer, uniform, longest=20))]
    assert lengths == [length for length in (8, 16, 20, 20) for _ in range(2 * drawn.CANDIDATES)]


def test_the_second_part_of_a_text_repeats_a_share_of_the_first():
    ids = torch.arange(200).expand(64, -1).clone()
    special = torch.tensor([0, 99, 100, 199])
    ordinary = ~torch.isin(torch.arange(200), special)
    before = ids.clone()
    drawn.repeat(ids, ordinary, torch.Generator().manual_seed(0))
    repeated = ids[:, 101:199] == ids[:, 1:99]
    assert torch.equal(ids[:, :101], before[:, :101]) and torch.equal(ids[:, 199], before[:, 199])
    assert torch.equal(ids[:, 101:199][~repeated], before[:, 101:199][~repeated])
    shares = repeated.float().mean(dim=1)
    assert (
        float(shares.min()) < 0.1 and float(shares.max()) > 0.9 and float(shares.mean()) == pytest.approx(0.5, abs=0.1)
    )


@pytest.mark.parametrize("special", [[0, 199], [0, 50, 100, 199], []])
def test_only_texts_of_two_parts_repeat(special):
    ids = torch.arange(200).expand(8, -1).clone()
    drawn.repeat(ids, ~torch.isin(torch.arange(200), torch.tensor(special)), torch.Generator().manual_seed(0))
    assert torch.equal(ids, torch.arange(200).expand(8, -1))


def test_texts_that_are_kept_have_outputs_that_are_spread_out(tiny_model, word_tokenizer):
    model = tiny_model(num_labels=2).eval()
    candidates = drawn_texts(model, word_tokenizer, "zipf", 0)
    assert sum(len(ids) for inputs in candidates for ids in ids_of(inputs)) == drawn.TEXTS

    def outputs_of(inputs):
        with torch.no_grad():
            return [run(model, each) for each in inputs]

    plain = outputs_of(each for inputs in candidates for each in inputs)
    kept = outputs_of(spread_out(candidates, plain))
    assert len(torch.cat(kept)) * drawn.CANDIDATES == drawn.TEXTS
    assert float(torch.cat(kept).var(dim=0).sum()) > 1.2 * float(torch.cat(plain).var(dim=0).sum())


@pytest.mark.parametrize(
    ("outputs", "count", "chosen"),
    [
        ([[0.0], [0.1], [9.0], [4.4], [0.2]], 3, [0, 2, 3]),
        ([[1.0, 1.0]] * 4, 2, [0, 1]),  # all alike: the first ones
        ([[0.0], [1.0]], 2, [0, 1]),
    ],
)
def test_spread_out(outputs, count, chosen):
    assert drawn.spread_out(torch.tensor(outputs), count).tolist() == chosen


def test_outputs_of_one_shape_for_each_length_have_slopes(word_tokenizer):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = transformers.BertForQuestionAnswering(transformers.BertConfig(vocab_size=203, **sizes))
    layers = finding.find_layers(model, ["linear"])
    measured = calibrate(model, layers, "drawn", "hub", word_tokenizer, "zipf", 0, True, silent)
    assert measured.slopes.keys() == layers.keys()
    assert all(slope > 0 for slope in measured.slopes.values())
