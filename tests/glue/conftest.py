"""A GLUE directory of rows written by us, and tiny fine-tuned checkpoints that know its words."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lpcompress.glue.tasks import AX, TASKS

ROWS = Path(__file__).parent.parent / "data" / "glue"
TOKENS = 203  # of the tiny models
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SEGMENTS = ("bert", "xlnet")  # architectures whose tokenizers say which sentence a token is of


@pytest.fixture(scope="session")
def glue_dir():
    """A directory of GLUE, one jsonl file a split: the nine tasks and AX."""
    return ROWS


@pytest.fixture
def rows_of():
    """A function (task, split) -> the rows of our own file as dicts."""

    def read(task, split):
        return [json.loads(line) for line in (ROWS / task / f"{split}.jsonl").read_text().splitlines()]

    return read


@pytest.fixture
def tokenizer():
    """A function (architecture) -> a tokenizer that knows the commonest words of the rows."""

    def make(architecture="bert"):
        text = " ".join(path.read_text() for path in sorted(ROWS.rglob("*.jsonl"))).lower()
        words = [word for word, _ in Counter(re.findall("[a-z]+", text)).most_common(TOKENS - len(SPECIAL))]
        core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + words)}, unk_token="[UNK]"))
        core.normalizer = normalizers.Lowercase()
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        core.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        inputs = ["input_ids", "attention_mask"] + ["token_type_ids"] * (architecture in SEGMENTS)
        return PreTrainedTokenizerFast(
            tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", model_input_names=inputs, model_max_length=38
        )

    return make


@pytest.fixture
def tiny_classifier(tiny_model, tokenizer, tmp_path):
    """A function (task, architecture, names, seed, **config) -> the directory of a random fine-tuned checkpoint.

    `names` are those of the outputs; by default the data set's classes, as a careful trainer leaves them.
    """

    def make(task, architecture="bert", names=None, directory=None, seed=0, **config):
        outputs = (TASKS | {"ax": AX})[task].n_outputs
        names = names or (TASKS | {"ax": AX})[task].classes or ["LABEL_0"]
        config = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}} | config
        model = tiny_model(architecture, num_labels=outputs, pad_token_id=0, **config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for tensor in model.parameters():  # far from 0, so that predictions differ from row to row
                tensor.add_(torch.randn(tensor.shape) * 0.3)
            inputs = torch.randint(len(SPECIAL), TOKENS, (32, 12), generator=torch.Generator().manual_seed(0))
            head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
            head.bias -= model(inputs).logits.mean(0)  # so that no class wins everywhere
        directory = Path(directory or tmp_path / architecture / task)
        model.save_pretrained(directory)
        tokenizer(architecture).save_pretrained(directory)
        return directory

    return make
