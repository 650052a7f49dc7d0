"""Row weights of a word embedding: token frequencies, estimated from the tokenizer alone.

By Zipf's law, a token's share of running text is inversely proportional to its frequency rank. Tokenizers reveal the
rank: WordPiece by the order of ids, byte-level BPE by the order of merges, SentencePiece unigram by log-probabilities.
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
from lpcompress.errors import LpCompressError, cut
from lpcompress.methods import AUTO, METHODS
from lpcompress.surgery.layer import Layer


def exponent_for(ratio: float, method: str = AUTO) -> float:
    """Return the exponent applied to token frequency to get row weights: 0.5, or more for few numbers a row.

    For methods that store numbers it rises from 0.5 at 80 % removed to 1, by how far logits move: there few bytes are
    left for rare tokens, and at 90 %, 0.75 is better than 0.5 and 0.9. Codes, whose steps follow the row weights, take
    few bytes for a rare token anyway. (At 97.5 % removed, logits of two classifiers moved by .26 and .06 of their
    variance at 0.5, by .46 and .18 at 0.75.)

    Examples
    --------
    >>> exponent_for(0.28, "svd"), exponent_for(0.9, "svd"), exponent_for(0.9)
    (0.5, 0.75, 0.5)
    """
    if method == AUTO or METHODS[method].weighs_rows:
        return 0.5
    return min(1.0, 0.5 + 2.5 * max(0.0, ratio - 0.8))


OFFSET = 2.7  # Mandelbrot's: the share of rank r is 1 / (r + OFFSET)
SPECIAL_SHARE = 10.0  # 27 times the most frequent word: in every text, and read by classifiers
SYMBOL_RANK = 300  # of a single ASCII character that is not in SYMBOLS
DIGIT_RANK = 100
PUNCTUATION = {".": 0, ",": 0, "'": 8, '"': 8, "-": 12, "?": 40, "!": 60, ":": 60, ";": 60, "(": 60, ")": 60}
"""Ranks among the words of English text; from counts of 459,000 words (Cook, "Standard punctuation and the punctuation
of the street", 2013): 65 full stops and 62 commas in a thousand words, 27 double quotes, 24 apostrophes, 15 hyphens, 6
question marks, 3 of each of the others."""
SYMBOLS = {
    "WordPiece": PUNCTUATION | {"a": 4, "A": 60, "i": 15, "I": 15, "s": 15, "t": 40, "##s": 30},  # it 's, don 't
    "WordLevel": PUNCTUATION | {"a": 4, "A": 60, "i": 15, "I": 15},
    "BPE": PUNCTUATION | {"Ġa": 4, "ĠA": 60, "Ġi": 15, "ĠI": 15, "s": 30, 'Ġ"': 8, "Ġ-": 12, "Ġ(": 60},
}
"""Ranks of single characters, whose ids and merges say nothing, as each kind of tokenizer writes them."""
RARE = 1 / 3  # share of a single non-ASCII character, relative to the last rank's
UNUSED = 1 / 30  # share of an unused token, relative to the last rank's
MOST_TOKENS = 1e18  # a count; more than there is text in the world, and its square is finite
UNUSED_NAME = re.compile(r"^[\[<]?(unused|reserved|madeupword|extra_id)[\w -]*[\]>]?$", re.IGNORECASE)
WORD_MARKS = "##|▁|Ġ|</w>"  # word-boundary marks in pieces


@dataclass(frozen=True)
class RowWeights:
    """Weights of the rows of a matrix, and their source.

    Attributes
    ----------
    values : Tensor of shape (n,) or None
        Float64, not negative; None means that all rows have equal weight.
    source : str
        Source of the weights, for the report: "zipf (WordPiece ids)", "uniform", "counts (FILE)".
    """

    values: Tensor | None
    source: str


def row_weights(wish: str, rows: int, tokenizer: Any | None, exponent: float) -> RowWeights:
    """Return row weights from the tokenizer (`zipf`), equal ones (`uniform`), or those from a file of token counts.

    Parameters
    ----------
    wish : str
        `zipf`, `uniform` or the path of a file. `zipf` falls back to uniform weights, with a note in `source`, if the
        tokenizer reveals no frequencies.
    rows : int
        Number of rows of the embedding; rows beyond the vocabulary count as unused.
    tokenizer : PreTrainedTokenizerBase or None
    exponent : float
        Exponent applied to token frequency.

    Returns
    -------
    RowWeights

    Raises
    ------
    LpCompressError
        If the file cannot be read or does not hold one number per row.
    """
    if wish == "uniform":
        return RowWeights(None, "uniform")
    if wish == "zipf":
        return zipf(tokenizer, rows, exponent)
    return from_counts(Path(wish), rows, exponent)


def zipf(tokenizer: Any | None, rows: int, exponent: float) -> RowWeights:
    """Return each token's share of running text, estimated from the tokenizer, to the power `exponent`."""
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
        if UNUSED_NAME.match(piece):
            continue
        if i in special:
            values[i] = SPECIAL_SHARE
        elif i in shares:
            values[i] = shares[i]
        elif model["type"] in SYMBOLS and (symbol := re.sub(WORD_MARKS, "", piece)) and len(symbol) == 1:
            values[i] = _symbol_share(piece, symbol, model["type"], least)
    return RowWeights(values.pow(exponent), f"zipf ({order})")


def _symbol_share(piece: str, symbol: str, kind: str, least: float) -> float:
    """Return the share of a piece of one character, given that of the last rank."""
    if not symbol.isascii():
        return least * RARE
    if piece.startswith("##") and not symbol.isalnum():
        return least * UNUSED  # these tokenizers split words at punctuation
    usual = DIGIT_RANK if symbol.isdigit() else SYMBOL_RANK
    return share_of_rank(SYMBOLS[kind].get(piece.replace("▁", "Ġ").removesuffix("</w>"), usual))


def share_of_rank(rank: float) -> float:
    """Return the frequency of the token of a given rank by Zipf's law, up to a constant."""
    return 1 / (rank + OFFSET)


def from_counts(file: Path, rows: int, exponent: float) -> RowWeights:
    """Return (count + 0.5) to the power `exponent` for counts in id order: a JSON list, or one number per line."""
    try:
        text = file.read_text(encoding="utf-8")
        counts = json.loads(text) if text.lstrip().startswith("[") else [float(line) for line in text.split()]
        values = torch.tensor(counts, dtype=torch.float64)
    except (OSError, ValueError, TypeError, RuntimeError, OverflowError) as error:  # torch: on malformed entries
        raise LpCompressError(
            f"row weights must be 'zipf', 'uniform' or a file of token counts, one number per token. "
            f"{str(file)!r} cannot be read as one: {cut(str(error))}."
        ) from error
    if values.shape != (rows,):
        raise LpCompressError(
            f"{file} must hold {rows} numbers, one for each row of the embedding. Got {_shape_in_words(values)}."
        )
    wrong = ~((values >= 0) & (values <= MOST_TOKENS))
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise LpCompressError(
            f"{file}: token counts must be non-negative and at most {MOST_TOKENS:g}. Got {float(values[first]):g} for"
            f" token {first}."
        )
    return RowWeights((values + 0.5).pow(exponent), f"counts ({file.name})")  # 0.5: a token with count 0 still occurs


def _shape_in_words(values: Tensor) -> str:
    return str(values.numel()) if values.dim() == 1 else f"a list of shape {tuple(values.shape)}"


def _model(tokenizer: Any | None) -> dict[str, Any]:
    """Return the `model` section of a fast tokenizer's JSON; empty for other tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return {} if backend is None else json.loads(backend.to_str())["model"]


def _by_id(model: dict[str, Any], pieces: dict[int, str]) -> dict[int, float]:
    """Rank words by id, skipping single characters and unused ids; return the share of each."""
    words = [i for i, piece in sorted(pieces.items()) if _is_word(piece)]
    return {i: share_of_rank(rank) for rank, i in enumerate(words)}


def _by_merge(model: dict[str, Any], pieces: dict[int, str]) -> dict[int, float]:
    """Rank pieces by merge, which is their order of frequency in the training text; return the share of each.

    Some vocabularies (RoBERTa's) were re-sorted by measured frequency, so their ids are the better ranks. Both orders
    correlate, so ids are used unless they contradict the merges.
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
    """Return the probability of each unigram piece; control pieces, whose log-probability is 0, are left out."""
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
    """Return the row weights of one layer of a model; they are uniform for all layers but the word embedding."""
    if not layer.is_word_embedding:
        return RowWeights(None, "uniform")
    if tokenizer is None and wish == "zipf":
        tokenizer = tokenizer_beside(model)
    return row_weights(wish, layer.matrix().shape[0], tokenizer, exponent)
