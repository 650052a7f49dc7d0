"""Text drawn from the tokenizer's own statistics: calibration without data.

Token ids are drawn independently, each as often as `priors` expects it in running text; special tokens stand where the
tokenizer puts them. Such text has no grammar and no meaning, but it has the right words, and most of what layers do
with their inputs depends on the words. What can be made more like real text is: texts have several lengths; the second
text of a pair repeats some of the first, as paraphrases, questions and answers do; and the slopes of the output are
measured on those of several candidates for which the outputs differ most.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import BatchEncoding

from lpcompress.compression.priors import RowWeights
from lpcompress.errors import LpCompressError

LENGTHS = (8, 16, 32, 64)  # tokens in a text, special tokens included
BATCH = 32  # texts in one input of the model
CANDIDATES = 4  # inputs drawn of each length and kind
TEXTS = 2 * len(LENGTHS) * CANDIDATES * BATCH  # single texts and pairs
FILLER = "a "  # encoded to see where special tokens stand; every vocabulary has it


def draw(tokenizer: Any, prior: RowWeights, rows: int, seed: int, longest: int) -> Iterator[list[BatchEncoding]]:
    """Draw `TEXTS` texts, as inputs of `BATCH` texts of one length, without padding.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    prior : RowWeights
        Share of each token in running text, shape (rows,), as from `priors.row_weights` with exponent 1; equal shares
        if it has no values.
    rows : int
        Number of rows of the model's embedding.
    seed : int
    longest : int
        Most tokens in a text, special tokens included.

    Yields
    ------
    list of BatchEncoding
        `CANDIDATES` inputs of one length, of single texts or of pairs.

    Raises
    ------
    LpCompressError
        If the tokenizer has no ordinary token.
    """
    generator = torch.Generator().manual_seed(seed)
    shares = shares_of(tokenizer, prior, rows)
    for length in LENGTHS:
        for pair in (False, True):
            frame = _frame(tokenizer, min(length, longest), pair)
            yield [_filled(*frame, shares, BATCH, generator) for _ in range(CANDIDATES)]


def draw_one(tokenizer: Any, prior: RowWeights, rows: int, seed: int, length: int) -> BatchEncoding:
    """Draw a single text of `length` tokens; parameters and errors as for `draw`."""
    generator = torch.Generator().manual_seed(seed)
    return _filled(*_frame(tokenizer, length, pair=False), shares_of(tokenizer, prior, rows), 1, generator)


def shares_of(tokenizer: Any, prior: RowWeights, rows: int) -> Tensor:
    """Return the share of each token, (rows,): that of special tokens is zero."""
    shares = torch.ones(rows, dtype=torch.float64) if prior.values is None else prior.values.clone()
    shares[[i for i in tokenizer.all_special_ids if 0 <= i < rows]] = 0
    shares[len(tokenizer) :] = 0
    if not float(shares.sum()) > 0:
        raise LpCompressError("calibration cannot be drawn: the tokenizer has no token that is not special.")
    return shares


def _filled(
    frame: dict[str, Tensor], ordinary: Tensor, shares: Tensor, count: int, generator: torch.Generator
) -> BatchEncoding:
    """Return `count` texts: a frame whose ordinary tokens are drawn."""
    wide = {key: tensor.expand(count, -1) for key, tensor in frame.items()}
    ids = wide["input_ids"].clone()
    drawn = torch.multinomial(shares, count * int(ordinary.sum()), replacement=True, generator=generator)
    ids[:, ordinary] = drawn.view(count, -1)
    repeat(ids, ordinary, generator)
    return BatchEncoding({**wide, "input_ids": ids})


def repeat(ids: Tensor, ordinary: Tensor, generator: torch.Generator) -> None:
    """Let the second of two parts of each text repeat tokens of the first, in place; a text of one part stays.

    How large a share of them, from none to all, is drawn for each text.

    Parameters
    ----------
    ids : Tensor of shape (texts, length)
    ordinary : Tensor of bool, shape (length,)
        Places of tokens that are not special. Parts are what special tokens separate.
    generator : torch.Generator
    """
    begins = ordinary & ~torch.cat([ordinary.new_zeros(1), ordinary[:-1]])
    if int(begins.sum()) != 2:
        return
    part = begins.cumsum(0)
    first, second = ((ordinary & (part == number)).nonzero().flatten() for number in (1, 2))
    common = min(len(first), len(second))
    first, second = first[:common], second[:common]
    shares = torch.rand(len(ids), 1, generator=generator)
    repeated = torch.rand(len(ids), common, generator=generator) < shares
    ids[:, second] = torch.where(repeated, ids[:, first], ids[:, second])


def spread_out(outputs: Tensor, count: int) -> Tensor:
    """Return the indices of `count` texts whose outputs are spread evenly along their first principal axis.

    A classifier gives nearly all random texts the same answer. Where it does, its output depends on layers otherwise
    than where its answers differ.

    Parameters
    ----------
    outputs : Tensor of shape (texts, k)
    count : int
        At most the number of texts.

    Examples
    --------
    >>> spread_out(torch.tensor([[0.0], [0.1], [0.2], [9.0], [4.0], [0.3]]), 3).tolist()
    [0, 3, 4]
    """
    centred = (outputs - outputs.mean(dim=0)).double()
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    places = vectors[:, -1] * values[-1].clamp_min(0).sqrt()
    places = places * places[places.abs().argmax()].sign()
    chosen: list[int] = []
    for wanted in torch.linspace(float(places.min()), float(places.max()), count, dtype=places.dtype):
        distances = (places - wanted).abs()
        distances[chosen] = torch.inf
        chosen.append(int(distances.argmin()))
    return torch.tensor(sorted(chosen))


def _frame(tokenizer: Any, length: int, pair: bool) -> tuple[dict[str, Tensor], Tensor]:
    """Return the encoding of a text (or of a pair of texts) of `length` tokens, and which of them are ordinary."""
    parts = [FILLER * length] * (2 if pair else 1)
    limits: dict[str, Any] = {"truncation": True, "max_length": length, "return_tensors": "pt"}
    encoded = dict(tokenizer(*parts, **limits))
    [ids] = encoded["input_ids"]
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, dtype=ids.dtype))
    unknown = tokenizer.unk_token_id
    return encoded, ~special if unknown is None else ~special | (ids == unknown)
