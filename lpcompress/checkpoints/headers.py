"""Bytes of weight files besides the tensors: names, shapes, offsets and digests."""

import json
from collections.abc import Iterable
from typing import Any

from lpcompress.checkpoints.conversions import conversions_of
from lpcompress.checkpoints.digests import Table

MAX_EXTRA_TENSORS = 6  # stored for a factored layer, besides the one that replaces its weight
ENTRY_BYTES = 100  # of a tensor's entry, or of what begins a file, without names
DIGEST = "0" * 16


def header_bytes(model: Any, layers: Iterable[str], files: int = 1) -> int:
    """Return a slightly high estimate of the bytes of all headers once `layers` are compressed.

    Parameters
    ----------
    model : PreTrainedModel
    layers : iterable of str
        Names of the layers.
    files : int, default=1
        Weight files. A tensor has its entry in one of them, but each holds the digests of all.

    Examples
    --------
    >>> import transformers
    >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 12}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes))
    >>> header_bytes(model, []) < header_bytes(model, ["embeddings.word_embeddings"])
    True
    """
    names = [*model.state_dict(), *(f"{name}.{i}" for name in layers for i in range(MAX_EXTRA_TENSORS))]
    sets = 2 if conversions_of(model) else 1  # of names; see `digests.Table`
    table = Table(DIGEST, [dict.fromkeys(names, DIGEST)] * sets)
    per_file = len(json.dumps(table.text())) + 2 * ENTRY_BYTES
    return sum(len(name.encode()) + ENTRY_BYTES for name in names) + files * per_file


def most_files(total: int, largest: int | None) -> int:
    """Return the most weight files that `total` bytes of tensors are divided into.

    Parameters
    ----------
    total : int
    largest : int or None
        Bytes of tensors in a file, as in `save_pretrained`, which fills one file after the other: any two in succession
        hold more than this. None if there is one file.

    Examples
    --------
    >>> most_files(100, None), most_files(100, 100), most_files(100, 40)
    (1, 1, 6)
    """
    return 1 if largest is None or total <= largest else 1 + 2 * total // largest
