"""Fixtures: tiny models of the four architectures, checkpoints, GLUE rows, random factorizations, interpreters."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from interpreters import Interpreters
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from lpcompress.cli import app
from lpcompress.cli.terminal import DEBUG
from lpcompress.cli.verdict import GITHUB, SUMMARY
from lpcompress.formats.clustered import Clustered
from lpcompress.formats.coded import Coded
from lpcompress.formats.coded_stream import Codes, scale_exponents
from lpcompress.formats.low_rank import LowRank
from lpcompress.formats.packing import index_dtype, pack_bits
from lpcompress.formats.sparse import SparseCoded
from lpcompress.glue.tasks import AX, TASKS

ROOT = Path(__file__).parent.parent
TOKENS, WIDTH = 203, 20  # neither is a multiple of eight
KINDS = ("low_rank", "clustered", "sparse")
SIZES = {"vocab_size": TOKENS, "hidden_size": WIDTH, "num_attention_heads": 2}
ARCHITECTURES = {
    "bert": ("Bert", SIZES | {"num_hidden_layers": 2, "intermediate_size": 32, "max_position_embeddings": 40}),
    "roberta": ("Roberta", SIZES | {"num_hidden_layers": 2, "intermediate_size": 32, "max_position_embeddings": 40}),
    "distilbert": ("DistilBert", {"vocab_size": TOKENS, "dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    "xlnet": ("XLNet", {"vocab_size": TOKENS, "d_model": WIDTH, "n_layer": 2, "n_head": 2, "d_inner": 32}),
}
ROWS = Path(__file__).parent / "data" / "glue"  # written by us
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SEGMENTS = ("bert", "xlnet")  # architectures whose tokenizers return token_type_ids
HEADS = {"classifier": "ForSequenceClassification", "lm": "ForMaskedLM", "base": "Model"}


def pytest_configure():
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)


def random_low_rank(rows, columns, generator, rank=6):
    left = torch.randn(rows, rank, generator=generator)
    return LowRank(left, torch.randn(rank, columns, generator=generator) / columns**0.5)


def random_clustered(rows, columns, generator, ranks=(3, 7, 0)):
    labels = torch.randint(len(ranks), (rows,), generator=generator)
    offsets, counts, start = torch.zeros(rows, dtype=torch.int32), [], 0
    for cluster, rank in enumerate(ranks):
        members = (labels == cluster).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]  # rows need not be in order
        offsets[members] = (start + rank * torch.arange(len(members))).int()
        start += rank * len(members)
        counts.append(len(members))
    codes = torch.randn(start, generator=generator)
    bases = torch.randn(sum(ranks), columns, generator=generator) / columns**0.5
    return Clustered(codes, bases, offsets, torch.tensor(list(zip(ranks, counts, strict=True))))


def random_sparse(rows, columns, generator, share=0.3):
    support = torch.rand(rows, columns, generator=generator) < share
    support[3] = False  # an empty row
    bytes_of = pack_bits(support)  # (rows, blocks)
    counts = torch.stack([support.sum(1), (bytes_of != 0).sum(1)], dim=1)
    offsets = (counts.cumsum(0) - counts).to(index_dtype(int(support.sum())))
    basis = torch.linalg.qr(torch.randn(columns, columns, generator=generator)).Q.contiguous()
    values = torch.randn(int(support.sum()), generator=generator)
    return SparseCoded(values, basis, pack_bits(bytes_of != 0), bytes_of[bytes_of != 0], offsets, columns)


def random_levels(rows, columns, generator, bits=2):
    levels = torch.randint(256, (rows, -(-columns * bits // 8)), dtype=torch.uint8, generator=generator)
    steps = torch.rand(rows, generator=generator)
    return replace(random_sparse(rows, columns, generator), bits=bits, levels=levels, steps=steps)


def random_entries(rows, columns, generator):
    return replace(random_sparse(rows, columns, generator), basis=None)


def random_coded(rows, columns, generator, width=None):
    width = width or columns
    codes = (3 * torch.randn(rows, width, generator=generator)).round().to(torch.int8)
    codes[3] = 0
    codes[4, 0] = 127
    basis = (40 * torch.linalg.qr(torch.randn(columns, width, generator=generator)).Q.T).round().to(torch.int8)
    steps = torch.randint(12, (rows,), generator=generator, dtype=torch.int16)
    scales = scale_exponents(codes.float().square().mean(1))
    held = Codes(
        codes, steps, scales, torch.zeros(width).short(), basis, scale_exponents(basis.float().square().mean(1))
    )
    return Coded.of(held, torch.full((width,), 0.02), torch.tensor([0.05, -0.005, 0.0025]))


def random_coded_entries(rows, columns, generator):
    held = random_coded(rows, columns, generator).decoded
    scales = torch.rand(columns, generator=generator) + 0.5
    return Coded.of(replace(held, basis=None, vectors=None), scales, torch.tensor([0.1, 0.0, 0.0]))


ENCODERS = {
    "low_rank": random_low_rank,
    "clustered": random_clustered,
    "sparse": random_sparse,
    "levels": random_levels,  # sparse, with quantization levels for the other coordinates
    "entries": random_entries,
    "coded": random_coded,
    "coded entries": random_coded_entries,
}


@pytest.fixture
def random_factorization():
    """A function (kind, rows, columns, seed) -> a random factorization with a valid index."""

    def make(kind, rows=TOKENS, columns=WIDTH, seed=0):
        return ENCODERS[kind](rows, columns, torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def tiny_model():
    """A function (architecture, head, **config) -> a random model in evaluation mode."""

    def make(architecture="bert", head="classifier", **config):
        family, sizes = ARCHITECTURES[architecture]
        suffix = "LMHeadModel" if (architecture, head) == ("xlnet", "lm") else HEADS[head]
        torch.manual_seed(0)
        settings = getattr(transformers, f"{family}Config")(**sizes | config)
        return getattr(transformers, family + suffix)(settings).eval()

    return make


@pytest.fixture
def word_tokenizer():
    """A tokenizer of `TOKENS` words that needs no file."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(TOKENS - 5))]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture
def compressed(tiny_model, random_factorization):
    """A function (architecture, head, kind) -> a model with a compressed word embedding."""

    def make(architecture="bert", head="classifier", kind="sparse", seed=0, **config):
        from lpcompress.checkpoints.quantizer import replace_layers
        from lpcompress.nn import from_factorization
        from lpcompress.surgery.finding import find_layers

        model = tiny_model(architecture, head, **config)
        [layer] = find_layers(model, ["embedding"]).values()
        factorization = random_factorization(kind, *layer.matrix().shape, seed)
        replace_layers(model, {layer: (from_factorization(factorization, layer.module), {"method": kind, "p": 1.0})})
        return model

    return make


@pytest.fixture
def ids():
    """Token ids of two sentences, shape (2, 9), with the padding tokens of all architectures."""
    tokens = torch.randint(6, TOKENS - 3, (2, 9), generator=torch.Generator().manual_seed(0))
    tokens[0, -1], tokens[1, -2], tokens[1, -1] = 0, 1, 5
    return tokens


@pytest.fixture(scope="session")
def interpreters():
    """Forked interpreters that have already imported torch and transformers."""
    made = Interpreters(ROOT)
    yield made
    made.stop()


@pytest.fixture
def fresh_python(interpreters):
    """A function (script, *arguments) -> the finished process of a separate interpreter, without network.

    With `cold`, or with environment variables, which imports may read, a new interpreter starts instead of a fork.
    """

    def start(script, *arguments, cold=False, **environment):
        if not (cold or environment):
            return interpreters.run("-c", script, *arguments)
        env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment
        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)

    return start


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def two_processes(interpreters):
    """A function (*arguments) -> the finished run of two cooperating CPU processes.

    They get the environment that torchrun sets, or are started by a real `launcher`: ("torch.distributed.run",) or
    accelerate's.
    """

    def start(*arguments, launcher=None):
        port = free_port()
        if launcher is None:
            shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            each = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
            kind, *arguments = arguments if arguments[0] == "-m" else ("", *arguments)
            return interpreters.run(kind, *arguments, environments=each)
        flags = (
            ("--main_process_port", "--num_processes")
            if "accelerate" in launcher[0]
            else (
                "--master-port",
                "--nproc-per-node",
            )
        )
        env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = ["-m", *launcher, flags[0], port, flags[1], "2", *map(str, arguments)]
        return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env, timeout=300)

    return start


@pytest.fixture(scope="session")
def glue_dir():
    """A GLUE directory with one jsonl file per split: the nine tasks and AX."""
    return ROWS


@pytest.fixture
def rows_of():
    """A function (task, split) -> the rows of a file in `ROWS`, as dicts."""

    def read(task, split):
        return [json.loads(line) for line in (ROWS / task / f"{split}.jsonl").read_text().splitlines()]

    return read


@pytest.fixture
def tokenizer():
    """A function (architecture) -> a tokenizer of the most common words in the rows."""

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
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", model_input_names=inputs, model_max_length=38
        )

    return make


@pytest.fixture
def tiny_classifier(tiny_model, tokenizer, tmp_path):
    """A function (task, architecture, names, seed, **config) -> the directory of a random classifier checkpoint.

    `names` are the names of the outputs, by default the classes of the data set.
    """

    def make(task, architecture="bert", names=None, directory=None, seed=0, **config):
        outputs = (TASKS | {"ax": AX})[task].n_outputs
        names = names or (TASKS | {"ax": AX})[task].classes or ["LABEL_0"]
        config = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}} | config
        model = tiny_model(architecture, num_labels=outputs, pad_token_id=0, **config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for tensor in model.parameters():  # large weights, so that predictions differ from row to row
                tensor.add_(torch.randn(tensor.shape) * 0.3)
            inputs = torch.randint(len(SPECIAL), TOKENS, (32, 12), generator=torch.Generator().manual_seed(0))
            head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
            head.bias -= model(inputs).logits.mean(0)  # so that no class wins everywhere
        directory = Path(directory or tmp_path / architecture / task)
        model.save_pretrained(directory)
        tokenizer(architecture).save_pretrained(directory)
        return directory

    return make


@pytest.fixture
def run(monkeypatch, capsys):
    """A function (*arguments) that runs the command line and returns exit code, stdout and stderr."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv(DEBUG, "")
    for variable in (GITHUB, SUMMARY):  # a test is no job of its own
        monkeypatch.delenv(variable, raising=False)
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
