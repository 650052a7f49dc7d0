"""Text drawn from the tokenizer's own statistics: calibration without data.

Token ids are drawn independently, each as often as `priors` expects it in running text; special tokens stand where the
tokenizer puts them. Such text has no grammar and no meaning, but it has the right words, and most of what layers do
with their inputs depends on the words.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import BatchEncoding

from lpcompress.compression.priors import RowWeights
from lpcompress.errors import LpCompressError

TEXTS = 256
TOKENS = 40  # in a text, special tokens included
BATCH = 32  # texts in one input of the model
FILLER = "a "  # encoded to see where special tokens stand; every vocabulary has it


def draw(
    tokenizer: Any, prior: RowWeights, rows: int, seed: int, longest: int = TOKENS, texts: int = TEXTS
) -> list[BatchEncoding]:
    """Draw model inputs of `BATCH` texts each, without padding; those in every second input are pairs.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    prior : RowWeights
        Share of each token in running text, shape (rows,), as from `priors.weights_of` with exponent 1; equal shares if
        it has no values.
    rows : int
        Number of rows of the model's embedding.
    seed : int
    longest : int, default=40
        Tokens in a text, special tokens included.
    texts : int, default=256

    Raises
    ------
    LpCompressError
        If the tokenizer has no ordinary token.
    """
    shares = torch.ones(rows, dtype=torch.float64) if prior.values is None else prior.values.clone()
    shares[[i for i in tokenizer.all_special_ids if 0 <= i < rows]] = 0
    shares[len(tokenizer) :] = 0
    if not float(shares.sum()) > 0:
        raise LpCompressError("calibration cannot be drawn: the tokenizer has no token that is not special.")
    generator = torch.Generator().manual_seed(seed)
    kinds = [_frame(tokenizer, longest, pair) for pair in (False, True)]
    drawn = []
    for start in range(0, texts, BATCH):
        frame, special = kinds[start // BATCH % 2]
        count = min(BATCH, texts - start)
        wide = {key: tensor.expand(count, -1) for key, tensor in frame.items()}
        ids, places = wide["input_ids"].clone(), (~special).expand(count, -1)
        ids[places] = torch.multinomial(shares, int(places.sum()), replacement=True, generator=generator)
        drawn.append(BatchEncoding({**wide, "input_ids": ids}))
    return drawn


def _frame(tokenizer: Any, longest: int, pair: bool) -> tuple[dict[str, Tensor], Tensor]:
    """Return the encoding of a text (or of a pair of texts) of `longest` tokens, and which of them are special."""
    parts = [FILLER * longest] * (2 if pair else 1)
    limits: dict[str, Any] = {"truncation": True, "max_length": longest, "return_tensors": "pt"}
    encoded = tokenizer(*parts, **limits)
    ids = encoded["input_ids"]
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, dtype=ids.dtype))
    unknown = tokenizer.unk_token_id
    return dict(encoded), special if unknown is None else special & (ids != unknown)
