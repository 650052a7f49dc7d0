"""Compute logits: tokenise rows once, batch rows of similar length, share the batches among processes."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding

from lpcompress.errors import LpCompressError
from lpcompress.glue.data import Rows
from lpcompress.processes import Workers
from lpcompress.progress import Progress, silent
from lpcompress.surgery.architectures import reads_padding

MAX_LENGTH = 128  # tokens, as in run_glue.py
CHUNK = 1000  # rows tokenised at a time: a tokenizer's result takes far more memory than the ids in it


@dataclass(frozen=True)
class Encoded:
    """Token ids of a data set, without padding, all rows concatenated.

    Attributes
    ----------
    features : dict of str to ndarray of shape (tokens,)
        What the tokenizer returns ("input_ids", ...), for all rows.
    offsets : ndarray of shape (n + 1,)
        Where each row begins in the features; the last entry is the end.
    collator : DataCollatorWithPadding
        Pads the rows of a batch to the longest one.
    batch_size : int
    """

    features: dict[str, np.ndarray]
    offsets: np.ndarray
    collator: DataCollatorWithPadding
    batch_size: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def batches(self, padded: bool = True) -> list[np.ndarray]:
        """Return the row numbers of each batch, longest rows first, so that lack of memory shows at once.

        Parameters
        ----------
        padded : bool, default=True
            Whether rows of different lengths may share a batch.
        """
        lengths = np.diff(self.offsets)
        order = np.argsort(-lengths, kind="stable")
        cuts: Any = [] if padded else np.flatnonzero(np.diff(lengths[order])) + 1
        return [
            part[start : start + self.batch_size]
            for part in np.split(order, cuts)
            for start in range(0, len(part), self.batch_size)
        ]

    def tensors(self, rows: np.ndarray) -> Any:
        """Return the padded features of some rows, each of shape (rows, length)."""
        return self.collator([self.row(row) for row in rows])

    def row(self, row: int) -> dict[str, list[int]]:
        """Return the features of one row, without padding."""
        place = slice(self.offsets[row], self.offsets[row + 1])
        return {name: values[place].tolist() for name, values in self.features.items()}


def encode(tokenizer: Any, rows: Rows, batch_size: int = 32, max_length: int = MAX_LENGTH) -> Encoded:
    """Tokenise rows of one text or a pair, truncated to `max_length` tokens or the tokenizer's limit.

    Raises
    ------
    LpCompressError
        If the tokenizer has no padding token.
    """
    if tokenizer.pad_token is None:
        raise LpCompressError(
            f"{tokenizer.name_or_path}: the tokenizer has no padding token. Set one and save it:"
            " tokenizer.pad_token = tokenizer.eos_token."
        )
    length = min(max_length, tokenizer.model_max_length)
    parts: dict[str, list[np.ndarray]] = {}
    sizes: list[int] = [0]
    for texts in _chunks(rows):
        ids = tokenizer(*texts, truncation=True, max_length=length)
        sizes.extend(map(len, ids["input_ids"]))
        for name, values in ids.items():
            parts.setdefault(name, []).append(np.concatenate([np.asarray(row, np.int32) for row in values]))
    features = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Encoded(features, np.cumsum(sizes), DataCollatorWithPadding(tokenizer), batch_size)


def _chunks(rows: Rows) -> Iterator[list[list[str]]]:
    for start in range(0, len(rows), CHUNK):
        yield [list(column[start : start + CHUNK]) for column in rows.texts]


def logits(
    model: Any, encoded: Encoded, workers: Workers, progress: Progress = silent, description: str = "scoring"
) -> np.ndarray:
    """Return the logits of every row.

    Each process takes every `workers.count`-th batch. Batches, and hence logits, do not depend on the number of
    processes: another padding would change the last digits of a floating-point sum.

    Parameters
    ----------
    model : PreTrainedModel
        On the workers' device.
    encoded : Encoded
    workers : Workers
    progress : Progress, optional
        Called with `description` after each batch.

    Returns
    -------
    ndarray of shape (n, outputs), float32
        In the order of the data set; the same in every process.
    """
    batches = encoded.batches(padded=not reads_padding(model.config))
    mine = batches[workers.rank :: workers.count]
    known = inspect.signature(model.forward).parameters

    @torch.inference_mode()
    def predict() -> list[np.ndarray]:
        results = []
        for done, rows in enumerate(mine, start=1):
            features = {name: values for name, values in encoded.tensors(rows).items() if name in known}
            output = model(**{name: values.to(model.device) for name, values in features.items()})
            results.append(output.logits.float().cpu().numpy())
            progress(description, done, len(mine))
        return results

    model.eval()
    parts = workers.gather(workers.together(predict))
    outputs: list[Any] = [None] * len(batches)
    for rank, part in enumerate(parts):
        outputs[rank :: workers.count] = part
    values = np.concatenate(outputs)
    result = np.empty_like(values)
    result[np.concatenate(batches)] = values
    return result
