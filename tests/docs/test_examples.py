"""Every example in README.md and docs/ runs, in order, where tiny models bear the names of the real ones."""

import json
import shutil
from pathlib import Path

import pytest
import transformers
from docs.run_page import blocks_of

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CLASSIFIERS = (  # stand-ins for fine-tuned models: task -> names
    ("mrpc", "my-model", "textattack/bert-base-uncased-MRPC", "textattack/roberta-base-MRPC"),
    ("rte", "textattack/bert-base-uncased-RTE", "textattack/roberta-base-RTE"),
    ("sst2", "textattack/bert-base-uncased-SST-2"),
)
SENTENCES = "sentence-transformers/all-MiniLM-L6-v2"
RERANKER = "BAAI/bge-reranker-base"
MODULES = {"Transformer": "", "Pooling": "1_Pooling"}
POOLING = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True}
WIDE = {"hidden_size": 64, "intermediate_size": 128}  # wide enough to be kept at a tenth of its bytes


@pytest.fixture
def world(tiny_classifier, tiny_model, tokenizer, tmp_path, monkeypatch, glue_dir):
    """The current directory, in which names of models on the Hub are directories with tiny random models."""
    monkeypatch.chdir(tmp_path)
    for task, *names in CLASSIFIERS:
        first = tiny_classifier(task, directory=tmp_path / names[0], **WIDE)
        for name in names[1:]:
            shutil.copytree(first, name)
    for name, model in (
        ("roberta-base", tiny_model("roberta", "lm", **WIDE)),
        (SENTENCES, tiny_model("bert", "base", **WIDE)),
        (RERANKER, reranker()),
    ):
        model.save_pretrained(name)
        tokenizer("roberta" if name == RERANKER else "bert").save_pretrained(name)
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(MODULES.items())
    ]
    Path(SENTENCES, "modules.json").write_text(json.dumps(modules))
    Path(SENTENCES, "1_Pooling").mkdir()
    Path(SENTENCES, "1_Pooling/config.json").write_text(json.dumps(POOLING))
    shutil.copytree(glue_dir, "glue")
    for task in CLASSIFIERS:
        shutil.copy(f"glue/{task[0]}/validation.jsonl", f"glue/{task[0]}/train.jsonl")
    return tmp_path


def reranker():
    """A cross-encoder with the vocabulary of XLM-RoBERTa, and one layer of 16 numbers."""
    config = transformers.XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        num_labels=1,
    )
    return transformers.XLMRobertaForSequenceClassification(config)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page, world, fresh_python, interpreters):
    script = f"import os, runpy, sys; os.chdir({str(world)!r}); sys.argv = ['', {str(page)!r}]; "
    script += f"runpy.run_path({str(Path(__file__).parent / 'run_page.py')!r}, run_name='__main__')"
    done = fresh_python(script)
    assert done.returncode == 0, done.stderr[-4000:]


def test_what_does_not_run_says_why():
    reasons = {(page.name, block.line): block.why for page in PAGES for block in blocks_of(page) if block.what}
    assert all(len(reason) > 1 for reason in reasons.values()), reasons
