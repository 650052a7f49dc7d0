"""Loading the tokenizer of a checkpoint."""

import pytest

from lpcompress.checkpoints import loading


def test_a_tokenizer_that_cannot_be_read_gives_a_warning(tiny_model, tokenizer, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    assert loading.load(str(tmp_path))[1] is None  # there is none, so no warning
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.warns(UserWarning, match="the tokenizer cannot be read and is left out. JSONDecodeError: "):
        assert loading.load(str(tmp_path))[1] is None
