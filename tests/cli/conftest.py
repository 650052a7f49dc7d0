from pathlib import Path

import pytest
from transformers import BertConfig, BertModel, BertTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(195))]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Name of a tiny BERT checkpoint with 200 tokens and a tokenizer, in the current directory."""
    monkeypatch.chdir(tmp_path)
    config = BertConfig(
        vocab_size=200,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=12,
    )
    BertModel(config).save_pretrained("tiny")
    Path("vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer("vocab.txt").save_pretrained("tiny")
    Path("vocab.txt").unlink()
    return "tiny"


@pytest.fixture
def one_line():
    """A function that returns the last line of a command's stderr, checking that there is no traceback."""

    def last(err):
        assert "Traceback" not in err
        return err.strip().splitlines()[-1]

    return last
