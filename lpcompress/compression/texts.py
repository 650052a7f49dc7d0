"""Texts for calibration: read from a file or a GLUE task, and encoded as inputs of a model."""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import BatchEncoding

from lpcompress.errors import LpCompressError, PlanError
from lpcompress.glue.tasks import chosen

GLUE = "glue:"
MAX_TEXTS = 2048
MAX_TOKENS = 128  # of a text
MAX_CHARACTERS = 16 * MAX_TOKENS  # of a text: tokenizers read a text to its end, however few tokens are asked for
TOTAL_TOKENS = 2**15  # of all texts; drawn text has as many, and four times as many tell no more
BATCH_TOKENS = 2**11  # of one input of the model
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
Text = TypeVar("Text")


def read_texts(source: str | Iterable[str], data: str = "hub") -> tuple[list[tuple[str, ...]], str]:
    """Return at most `MAX_TEXTS` texts or pairs of texts, and the name of their source.

    A file holds one text per line, or is a `.jsonl` file with a field "text"; the first ones are read. For GLUE the
    texts are those of the training split, evenly spaced, because some splits are in order of origin; labels are not
    used.

    Raises
    ------
    LpCompressError
        If the file cannot be read, or holds no text.
    PlanError
        If more than one GLUE task is named.
    """
    from lpcompress.glue.data import load_rows  # imported here: datasets and pyarrow take 90 MB

    texts: list[tuple[Any, ...]]
    if not isinstance(source, str):
        texts, name = [(text,) for text in source] if isinstance(source, Iterable) else [(source,)], "texts"
    elif source.startswith(GLUE):
        tasks = chosen([source.removeprefix(GLUE)])
        if len(tasks) > 1:
            raise PlanError(f"calibration glue:TASK must name one task, such as glue:mrpc. Got {source!r}.")
        columns = load_rows(tasks[0], "train", data).texts
        texts, name = [*zip(*(evenly_spaced(column, MAX_TEXTS) for column in columns), strict=True)], source
    else:
        texts, name = [(text,) for text in _texts_of(Path(source))], Path(source).name
    if not all(isinstance(part, str) for parts in texts for part in parts):
        raise LpCompressError(f"calibration must be a file, glue:TASK, or texts. Some entries of {name} are not text.")
    texts = [parts for parts in texts if "".join(parts).strip()][:MAX_TEXTS]
    for number, parts in enumerate(texts, 1):
        if HALF_CHARACTER.search("".join(parts)):
            raise LpCompressError(f"calibration {name}: text {number} holds half a character (a lone surrogate).")
    if not texts:
        raise LpCompressError(f"calibration {name} must hold text, one per line. It holds none.")
    return texts, name


def encode(texts: Sequence[tuple[str, ...]], tokenizer: Any, longest: int) -> list[BatchEncoding]:
    """Encode texts or pairs of texts, those of equal length together, so that none is padded.

    Parameters
    ----------
    texts : sequence of tuple of str
        If they have more than `TOTAL_TOKENS` tokens, evenly spaced ones of them are taken.
    tokenizer : PreTrainedTokenizerBase
    longest : int
        Most tokens that the model takes; texts are cut there, or after `MAX_TOKENS`.

    Returns
    -------
    list of BatchEncoding
        By length; each has at most `BATCH_TOKENS` tokens, or a single text.
    """
    limits: dict[str, Any] = {"truncation": True, "max_length": min(MAX_TOKENS, longest)}
    encoded = [tokenizer(*(part[:MAX_CHARACTERS] for part in parts), **limits) for parts in texts]
    tokens = sum(len(each["input_ids"]) for each in encoded)
    by_length: dict[int, list[Any]] = {}
    for each in evenly_spaced(encoded, max(1, len(encoded) * TOTAL_TOKENS // max(1, tokens))):
        by_length.setdefault(len(each["input_ids"]), []).append(each)
    inputs = []
    for length, alike in sorted(by_length.items()):
        count = max(1, BATCH_TOKENS // max(1, length))
        for some in (alike[at : at + count] for at in range(0, len(alike), count)):
            inputs.append(BatchEncoding({key: torch.tensor([each[key] for each in some]) for key in some[0]}))
    return inputs


def evenly_spaced(texts: Sequence[Text], count: int) -> list[Text]:
    """Return at most `count` of some texts.

    Examples
    --------
    >>> evenly_spaced("abcdef", 3)
    ['a', 'c', 'e']
    """
    count = min(len(texts), count)
    return [texts[i * len(texts) // count] for i in range(count)]


def _texts_of(file: Path) -> list[Any]:
    """Return the content of the first `MAX_TEXTS` non-empty lines of a file, without reading further."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            found = list(islice((line.strip() for line in lines if line.strip()), MAX_TEXTS))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise LpCompressError(
            f"calibration must be a file of text, or glue:TASK. {str(file)!r} cannot be read: {reason}."
        ) from None
    if file.suffix != ".jsonl":
        return found
    try:
        return [json.loads(line)["text"] for line in found]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise LpCompressError(f"{file}: every line must be a JSON object with a field 'text'.") from None
