import pytest
import torch

from lpcompress.surgery.architectures import longest_text


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
def test_a_text_is_as_long_as_there_are_positions(architecture, tiny_model, tokenizer):
    model, words = tiny_model(architecture).eval(), tokenizer(architecture)
    words.model_max_length = 1000
    longest = longest_text(model, words)
    ids = torch.full((1, longest), 5)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))
    longer = torch.full((1, longest + 1), 5)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=longer, attention_mask=torch.ones_like(longer))


def test_no_longer_than_the_tokenizer_says(tiny_model, tokenizer):
    assert longest_text(tiny_model("bert"), tokenizer()) == tokenizer().model_max_length == 38


def test_relative_positions_set_no_end(tiny_model, tokenizer):
    words = tokenizer("xlnet")
    words.model_max_length = 1000
    assert longest_text(tiny_model("xlnet"), words) == 1000
