"""Statistics of a model on unlabelled text: token counts, inputs of layers, and which layers matter."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpcompress.checkpoints.tokenizers import tokenizer_beside
from lpcompress.compression.moments import statistics_of
from lpcompress.compression.priors import RowWeights
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.glue.tasks import chosen
from lpcompress.progress import Progress
from lpcompress.surgery.architectures import longest_text
from lpcompress.surgery.layer import Layer

GLUE = "glue:"
MOST_TEXTS = 512
MOST_TOKENS = 128  # of a text
PRIOR_TOKENS = 10_000  # of text that the prior is worth beside the counts
LEAST = 1e-4  # of the greatest sensitivity: no layer is free


@dataclass(frozen=True)
class Calibration:
    """Statistics of a model on text.

    Attributes
    ----------
    source : str
        For the report.
    texts : int
        How many were read.
    counts : dict of int to int
        How often each token occurs.
    moments : dict of str to Tensor of shape (d, d)
        E[x x^T] of the inputs of linear layers, convolutions and bare weights, float64.
    sensitivities : dict of str to float
        Of the output to each layer: see `statistics_of`; empty if not asked for.
    """

    source: str
    texts: int
    counts: Mapping[int, int]
    moments: dict[str, Tensor]
    sensitivities: dict[str, float]

    def row_weights(self, prior: RowWeights, rows: int, exponent: float) -> RowWeights:
        """Return the shares of tokens in the text, smoothed by a prior (rows,), to the power `exponent`."""
        expected = torch.ones(rows, dtype=torch.float64) if prior.values is None else prior.values
        weights = expected * (PRIOR_TOKENS / expected.sum())
        ids = torch.tensor([i for i in self.counts if i < rows], dtype=torch.int64)
        weights[ids] += torch.tensor([self.counts[int(i)] for i in ids], dtype=torch.float64)
        return RowWeights(weights.pow(exponent), f"calibration ({self.source})")


def calibrate(
    model: Any,
    layers: Mapping[str, Layer],
    source: str | Iterable[str],
    data: str,
    tokenizer: Any | None,
    seed: int,
    sensitivities: bool,
    tell: Progress,
) -> Calibration:
    """Run text through a model and measure its statistics.

    Parameters
    ----------
    model : PreTrainedModel
    layers : mapping of name to Layer
        Those that will be compressed. Second moments are taken of all but embeddings.
    source : str or iterable of str
        File, `glue:TASK`, or the texts themselves; the first `MOST_TEXTS` are used.
    data : str
        Where GLUE is.
    tokenizer : PreTrainedTokenizerBase or None
        By default that beside the model.
    seed : int
        Of the signs in `statistics_of`.
    sensitivities : bool
        Measure them too.
    tell : Progress

    Raises
    ------
    LpCompressError
        If there is no text or no tokenizer.
    """
    texts, name = read_texts(source, data)
    tokenizer = tokenizer or tokenizer_beside(model)
    if tokenizer is None:
        raise LpCompressError("calibration needs the tokenizer of the model, and none was found. Pass tokenizer.")
    longest = min(MOST_TOKENS, longest_text(model, tokenizer))
    encoded = [tokenizer(text, truncation=True, max_length=longest, return_tensors="pt") for text in texts]
    counts = Counter(int(i) for each in encoded for i in each["input_ids"].flatten())
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        looked_up = all(layer.role == "embedding" for layer in layers.values())  # counts say it all then
        moments, measured = ({}, {}) if looked_up else statistics_of(model, layers, encoded, seed, sensitivities, tell)
    finally:
        for module, training in modes.items():
            module.training = training
    floor = max(measured.values(), default=0.0) * LEAST or 1.0
    measured = {layer: max(value, floor) for layer, value in measured.items()}
    return Calibration(name, len(texts), counts, moments, measured)


def read_texts(source: str | Iterable[str], data: str = "hub") -> tuple[list[str], str]:
    """Return the first texts of a source and its name.

    A file holds one text a line, or is `.jsonl` with a field "text". Labels of GLUE are never looked at: texts are
    those of the training split.

    Raises
    ------
    LpCompressError
        If the file cannot be read, or holds no text.
    PlanError
        If not one task is named.
    """
    from lpcompress.glue.data import load_rows  # 90 MB of datasets and pyarrow that nobody else needs

    if not isinstance(source, str):
        texts, name = list(source) if isinstance(source, Iterable) else [source], "texts"
    elif source.startswith(GLUE):
        tasks = chosen([source.removeprefix(GLUE)])
        if len(tasks) > 1:
            raise PlanError(f"calibration glue:TASK names one task, such as glue:mrpc. Got {source!r}.")
        rows = load_rows(tasks[0], "train", data, MOST_TEXTS)
        texts, name = [" ".join(parts) for parts in zip(*rows.texts, strict=True)], source
    else:
        texts, name = _texts_of(Path(source)), Path(source).name
    if not all(isinstance(text, str) for text in texts):
        raise LpCompressError(
            f"calibration must be a file, glue:TASK, or texts. Not all that is to be read in {name} is text."
        )
    texts = [text for text in texts if text.strip()][:MOST_TEXTS]
    if not texts:
        raise LpCompressError(f"calibration {name} must hold text, one a line. It holds none.")
    return texts, name


def _texts_of(file: Path) -> list[Any]:
    """Return what the first lines of a file that are not empty hold; no more of it is read."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            found = list(islice((line.strip() for line in lines if line.strip()), MOST_TEXTS))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise LpCompressError(
            f"calibration must be a file of text, or glue:TASK. {str(file)!r} cannot be read: {reason}."
        ) from None
    if file.suffix != ".jsonl":
        return found
    try:
        return [json.loads(line)["text"] for line in found]
    except (ValueError, KeyError, TypeError):
        raise LpCompressError(f"{file}: every line must be a JSON object with a text under 'text'.") from None
