import signal
import sys
import warnings
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel, BertTokenizer

from lpcompress.cli import app
from lpcompress.cli.terminal import DEBUG

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(195))]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line as a shell would: exit code, stdout, stderr."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv(DEBUG, "")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lpcompress", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            app.main()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A BERT of 200 tokens with its tokenizer, in the current directory."""
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
    """A function that returns the error of a command: the last line, nothing of a traceback before it."""

    def last(err):
        assert "Traceback" not in err
        return err.strip().splitlines()[-1]

    return last
