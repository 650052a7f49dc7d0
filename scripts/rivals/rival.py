"""What a rival gets and returns, and the scopes in which rivals are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lpcompress.surgery.finding import find_layers
from lpcompress.surgery.sizes import tensor_bytes


@dataclass(frozen=True)
class Scope:
    """What is compressed, and what bytes are counted.

    Attributes
    ----------
    title : str
    layers : str
        Word of `--layers` that selects the matrices.
    whole : bool
        Whether all tensors of the model are counted; otherwise only the matrices.
    row_weights : str
        For our methods, which can weight the rows of an embedding.
    scored : bool
        Whether classifiers are scored; otherwise only the error of the embedding is measured, on one task's model.
    tasks : tuple of str
        By default.
    """

    title: str
    layers: str
    whole: bool
    row_weights: str
    scored: bool
    tasks: tuple[str, ...]


SCOPES = {
    "embedding": Scope("The word embedding alone", "embedding", False, "zipf", True, ("mrpc", "sst2", "stsb")),
    "model": Scope("The whole model", "all", True, "zipf", True, ("mrpc", "sst2")),
    "matrix": Scope("Errors of the word embedding, rows alike", "embedding", False, "uniform", False, ("mrpc",)),
}


@dataclass(frozen=True)
class Subject:
    """A classifier that a rival compresses in place.

    Attributes
    ----------
    model : PreTrainedModel
        The rival's own copy.
    tokenizer : PreTrainedTokenizerBase
    task : str
    scope : Scope
    data : str
        Directory of GLUE.
    """

    model: Any
    tokenizer: Any
    task: str
    scope: Scope
    data: str

    def matrices(self) -> dict[str, Tensor]:
        """Return the matrices to compress, by layer name. They are the model's own: writing to them changes it."""
        return {name: layer.matrix() for name, layer in find_layers(self.model, [self.scope.layers]).items()}

    def dense_bytes(self) -> int:
        """Return the bytes that count before the compression."""
        return tensor_bytes(self.model) if self.scope.whole else sum(bytes_of(m) for m in self.matrices().values())


@dataclass(frozen=True)
class Fit:
    """What a rival made of a classifier: everything a decoder needs, in bytes, and the setting that gave it."""

    n_bytes: int
    setting: str


@dataclass(frozen=True)
class Rival:
    """A row of the table of rivals.

    Attributes
    ----------
    name : str
    family : str
        For `--only`.
    about : str
        What it does, for the report.
    fit : callable (Subject, share) -> Fit
        Compresses the model in place to at most `share` of the bytes; None for a rival with a size of its own. Raises
        `LpCompressError` if it has no setting of this size.
    sized : bool
        Whether it can be asked for a size.
    scopes : tuple of str
        Keys of `SCOPES`.
    """

    name: str
    family: str
    about: str
    fit: Callable[[Subject, float | None], Fit]
    sized: bool = True
    scopes: tuple[str, ...] = tuple(SCOPES)


@torch.no_grad()
def coded_by(encode: Callable[[Tensor], tuple[Tensor, int]], subject: Subject) -> int:
    """Replace every matrix by what `encode` makes of it, and return the bytes that then count.

    Parameters
    ----------
    encode : callable
        Takes a matrix (n, d), returns the decoded matrix (n, d) and the bytes of the code.
    subject : Subject
        Its other tensors stay as they are.
    """
    total = subject.dense_bytes()
    for matrix in subject.matrices().values():
        decoded, n_bytes = encode(matrix)
        total += n_bytes - bytes_of(matrix)
        matrix.copy_(decoded)
    return total


def bytes_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor."""
    return tensor.numel() * tensor.element_size()
