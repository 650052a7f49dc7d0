"""Row weights of a word embedding: how often each token occurs, estimated from the tokenizer alone.

A token's share of running text falls like one over its frequency rank (Zipf's law), and tokenizers keep their
tokens in an order, or with numbers, that tell the rank: WordPiece by id, byte-level BPE by merge, SentencePiece unigram
by the pieces' own log-probabilities.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpcompress.checkpoints.tokenizers import tokenizer_beside
from lpcompress.errors import LpCompressError
from lpcompress.surgery.layer import Layer


def exponent_for(ratio: float) -> float:
    """Return the exponent applied to token frequency to get row weights: 1/2, rising to 1 beyond 80 % removed.

    Measured by how far logits move, without labels: up to 80 % removed, exponents between 0.5 and 0.75 are within a few
    per cent of each other and better than 1. Beyond that little is left to spend on rare tokens: at 90 %, 0.75 is
    better than 0.5 and 0.9.
    """
    return min(1.0, 0.5 + 2.5 * max(0.0, ratio - 0.8))


OFFSET = 10.0  # frequency of rank r is 1 / (r + OFFSET): the first few tokens are not that far apart
SPECIAL_SHARE = 10.0  # a hundred times the most frequent word: in every text, and where classifiers read
SYMBOL_RANK = 30  # single ASCII characters: punctuation, digits, letters
RARE = 1 / 3  # of the last rank's share: single characters of other scripts
UNUSED = 1 / 30  # of the last rank's share
UNUSED_NAME = re.compile(r"^[\[<]?(unused|reserved|madeupword|extra_id)[\w -]*[\]>]?$", re.IGNORECASE)
WORD_MARKS = "##|▁|Ġ|</w>"  # that tokenizers put before or after a piece


@dataclass(frozen=True)
class RowWeights:
    """Weight of every row, and where it comes from.

    Attributes
    ----------
    values : Tensor of shape (n,) or None
        None: all rows alike.
    source : str
        For the report: "zipf (WordPiece ids)", "uniform", "counts (FILE)".
    """

    values: Tensor | None
    source: str


def row_weights(wish: str, rows: int, tokenizer: Any | None, exponent: float) -> RowWeights:
    """Return the row weights that the user asked for: `zipf`, `uniform`, or a file of token counts.

    Parameters
    ----------
    wish : str
        `zipf` falls back to uniform, and says so, where nothing is known of the tokenizer.
    rows : int
        Rows of the embedding; those beyond the vocabulary are unused.
    tokenizer : PreTrainedTokenizerBase or None
    exponent : float
        Exponent applied to token frequency.

    Raises
    ------
    LpCompressError
        If the file cannot be read or does not hold one number a row.
    """
    if wish == "uniform":
        return RowWeights(None, "uniform")
    if wish == "zipf":
        return zipf(tokenizer, rows, exponent)
    return from_counts(Path(wish), rows, exponent)


def zipf(tokenizer: Any | None, rows: int, exponent: float) -> RowWeights:
    """Estimate each token's share of running text from the tokenizer, and return it to the power `exponent`."""
    model = _model(tokenizer)
    if tokenizer is None or model.get("type") not in SHARES:
        return RowWeights(None, "uniform (the tokenizer says nothing about frequencies)")
    pieces = {int(i): piece for piece, i in tokenizer.get_vocab().items() if 0 <= int(i) < rows}
    order, known = SHARES[model["type"]]
    shares = known(model, pieces)
    least = min(shares.values(), default=1.0)
    special = set(tokenizer.all_special_ids)
    values = torch.full((rows,), least * UNUSED, dtype=torch.float64)
    for i, piece in pieces.items():
        bare = re.sub(WORD_MARKS, "", piece)
        if UNUSED_NAME.match(piece):
            continue
        values[i] = SPECIAL_SHARE if i in special else shares.get(i, least * UNUSED)
        if model["type"] != "Unigram" and i not in special and len(bare) == 1:
            values[i] = share_of_rank(SYMBOL_RANK) if bare.isascii() else least * RARE
    return RowWeights(values.pow(exponent), f"zipf ({order})")


def share_of_rank(rank: float) -> float:
    """Return Zipf's law for the rank-th most frequent token, up to a constant."""
    return 1 / (rank + OFFSET)


def from_counts(file: Path, rows: int, exponent: float) -> RowWeights:
    """Read token counts: a JSON list, or one number a line, in the order of the ids; same power as `zipf`."""
    try:
        text = file.read_text(encoding="utf-8")
        counts = json.loads(text) if text.lstrip().startswith("[") else [float(line) for line in text.split()]
        values = torch.tensor(counts, dtype=torch.float64)
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # torch raises the last three on odd entries
        raise LpCompressError(
            f"row weights must be 'zipf', 'uniform' or a file of token counts, one number a token. "
            f"{str(file)!r} cannot be read as one: {error}."
        ) from error
    if values.shape != (rows,):
        raise LpCompressError(
            f"{file}: must hold {rows} numbers, one for each row of the embedding. Got {_shape_in_words(values)}."
        )
    wrong = ~(torch.isfinite(values) & (values >= 0))
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise LpCompressError(
            f"{file}: token counts must be finite and not negative. Got {float(values[first]):g} for token {first}."
        )
    return RowWeights((values + 0.5).pow(exponent), f"counts ({file.name})")  # 0.5: not seen is not never


def _shape_in_words(values: Tensor) -> str:
    return str(values.numel()) if values.dim() == 1 else f"a list of shape {tuple(values.shape)}"


def _model(tokenizer: Any | None) -> dict[str, Any]:
    """Return the `model` part of a fast tokenizer's own description, empty for others."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return {} if backend is None else json.loads(backend.to_str())["model"]


def _by_id(model: dict[str, Any], pieces: dict[int, str]) -> dict[int, float]:
    """Words in the order of their ids; single characters and unused ids do not count as ranks."""
    words = [i for i, piece in sorted(pieces.items()) if _is_word(piece)]
    return {i: share_of_rank(rank) for rank, i in enumerate(words)}


def _by_merge(model: dict[str, Any], pieces: dict[int, str]) -> dict[int, float]:
    """Pieces in the order in which they were merged, which is that of their frequency in the training text.

    Some vocabularies (RoBERTa's) were sorted anew by measured frequency; then the ids are the better ranks.
    Both orders rise together, so ids are taken unless they contradict the merges.
    """
    merges = {"".join(pair if isinstance(pair, list) else pair.split(" ")): r for r, pair in enumerate(model["merges"])}
    merged = [(i, merges[piece]) for i, piece in sorted(pieces.items()) if piece in merges]
    if len(merged) > 1:
        ids, ranks = torch.tensor(merged, dtype=torch.float64).T
        agreement = float(torch.corrcoef(torch.stack([ids, ranks]))[0, 1])
        if not agreement > 0.5:
            return {i: share_of_rank(rank) for i, rank in merged}
    return _by_id(model, pieces)


def _by_probability(model: dict[str, Any], pieces: dict[int, str]) -> dict[int, float]:
    """Unigram pieces carry log-probabilities; control pieces carry 0 and say nothing."""
    scores = dict(model["vocab"])
    return {i: torch.tensor(scores[piece]).exp().item() for i, piece in pieces.items() if scores.get(piece, 0.0) < 0}


def _is_word(piece: str) -> bool:
    return len(re.sub(WORD_MARKS, "", piece)) > 1 and not UNUSED_NAME.match(piece)


Shares = Callable[[dict[str, Any], dict[int, str]], dict[int, float]]
SHARES: dict[str, tuple[str, Shares]] = {
    "WordPiece": ("WordPiece ids", _by_id),
    "WordLevel": ("word ids", _by_id),
    "BPE": ("BPE merges", _by_merge),
    "Unigram": ("unigram log-probabilities", _by_probability),
}


def weights_of(model: Any, layer: Layer, wish: str, tokenizer: Any | None, exponent: float) -> RowWeights:
    """Return the row weights of one layer of a model: uniform for all but the word embedding."""
    if not layer.is_word_embedding:
        return RowWeights(None, "uniform")
    if tokenizer is None and wish == "zipf":
        tokenizer = tokenizer_beside(model)
    return row_weights(wish, layer.matrix().shape[0], tokenizer, exponent)
