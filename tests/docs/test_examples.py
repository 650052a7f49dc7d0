"""Every example in README.md and docs/ runs, in order, where tiny models bear the names of the real ones."""

import json
import shutil
from pathlib import Path

import pytest
import transformers
from docs.run_page import blocks_of, runs

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
WIDE = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
"""Wide enough to be kept at a tenth of its bytes; one layer, because coding takes most of the time."""


@pytest.fixture
def world(tiny_classifier, tiny_model, tokenizer, tmp_path, monkeypatch, glue_dir):
    """A function (text): makes a directory for every model that the text names, in the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(glue_dir, "glue")
    for task, *_ in CLASSIFIERS:
        shutil.copy(f"glue/{task}/validation.jsonl", f"glue/{task}/train.jsonl")

    def make(text):
        text = text.replace("{TASK}", "MRPC").replace("mrpc,rte", "bert-base-uncased-RTE")
        for task, *names in CLASSIFIERS:
            for name in names:
                if name in text or name.removeprefix("textattack/") in text:
                    tiny_classifier(task, directory=tmp_path / name, **WIDE)
        for name, model in OTHERS.items():
            if name in text:
                model(tiny_model).save_pretrained(name)
                tokenizer("roberta" if name == RERANKER else "bert").save_pretrained(name)
        if SENTENCES in text:
            pool(Path(SENTENCES))
        return tmp_path

    return make


def pool(directory):
    """Make a checkpoint one of sentence-transformers."""
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(MODULES.items())
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling/config.json").write_text(json.dumps(POOLING))


def reranker():
    """A cross-encoder with many tokens, and one layer of 16 numbers."""
    config = transformers.XLMRobertaConfig(
        vocab_size=2_000,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        num_labels=1,
    )
    return transformers.XLMRobertaForSequenceClassification(config)


OTHERS = {
    "roberta-base": lambda tiny_model: tiny_model("roberta", "lm", **WIDE),
    SENTENCES: lambda tiny_model: tiny_model("bert", "base", **WIDE),
    RERANKER: lambda _: reranker(),
}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(map(runs, blocks_of(page)))], ids=lambda page: page.stem
)
def test_the_examples_of_a_page_run(page, world, fresh_python):
    script = f"import os, runpy, sys; os.chdir({str(world(page.read_text()))!r}); sys.argv = ['', {str(page)!r}]; "
    script += f"runpy.run_path({str(Path(__file__).parent / 'run_page.py')!r}, run_name='__main__')"
    done = fresh_python(script)
    assert done.returncode == 0, done.stderr[-4000:]


def test_what_does_not_run_says_why():
    said = [(page.name, block) for page in PAGES for block in blocks_of(page) if block.what]
    assert {block.what for _, block in said} <= {"not run", "needs", "exit"}
    assert not [(name, block.line) for name, block in said if block.what == "not run" and len(block.why.split()) < 3]
